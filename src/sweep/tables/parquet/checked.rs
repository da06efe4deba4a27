//! What is to be known of a Parquet file before anyone reads its values.
//!
//! The footer and the header of every page are read with the definitions that polars uses itself; whatever
//! they say of places, lengths and counts must agree with each other, lie within the file and keep the
//! limits. Then the file gets a footer that says nothing but this, and of the chosen columns only.
//! Statistics, Arrow schemas and indexes, which nothing here needs, stay outside.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use polars_parquet_format::thrift::protocol::{TCompactInputProtocol, TCompactOutputProtocol};
use polars_parquet_format::{
    ColumnChunk, ColumnMetaData, CompressionCodec, ConvertedType, DataPageHeader, DataPageHeaderV2,
    DictionaryPageHeader, Encoding, FieldRepetitionType, FileMetaData, LogicalType, PageHeader, PageType,
    RowGroup, SchemaElement, Type,
};

/// The most values a table may have: a million runs have a hundred million.
const MOST_VALUES: u64 = 500_000_000;

/// The most values for each byte of a file, besides [`VALUES_FREE`]. Equal ones take next to nothing, but ids
/// of runs differ: a table of ours has no more than a dozen.
const VALUES_PER_BYTE: u64 = 32;
const VALUES_FREE: u64 = 1_000_000;

/// The most bytes that each byte of a file may decompress to, besides [`BYTES_FREE`], and the most text in
/// its rows.
const EXPANSION: u64 = 250;
const BYTES_FREE: u64 = 1 << 24;

const MAGIC: &[u8] = b"PAR1";

/// The header of a page has two dozen bytes, and statistics of a shortest and a longest text.
const MOST_HEADER_BYTES: usize = 1 << 20;

/// What the reader of Thrift counts for a byte at most: an element of a list as eight, a structure as two.
const COUNTED_PER_BYTE: usize = 10;

const TYPES: [(Type, &str); 8] = [
    (Type::BOOLEAN, "BOOLEAN"),
    (Type::INT32, "INT32"),
    (Type::INT64, "INT64"),
    (Type::INT96, "INT96"),
    (Type::FLOAT, "FLOAT"),
    (Type::DOUBLE, "DOUBLE"),
    (Type::BYTE_ARRAY, "BYTE_ARRAY"),
    (Type::FIXED_LEN_BYTE_ARRAY, "FIXED_LEN_BYTE_ARRAY"),
];

/// A file that says nothing which has not been checked.
pub struct Checked {
    /// Has the chosen columns only.
    pub bytes: Vec<u8>,
    pub rows: usize,
    pub columns: usize,
    pub most_text_bytes: u64,
}

/// Checks a file, and leaves in it the columns that `choose` names when told which there are; all if it names
/// none.
pub fn checked(
    mut bytes: Vec<u8>,
    choose: impl FnOnce(&dyn Fn(&str) -> bool) -> Option<Vec<String>>,
) -> Result<Checked> {
    let size = bytes.len() as u64;
    let pages_end = footer_start(&bytes)?;
    let footer = parse_footer(&bytes[pages_end..bytes.len() - 8])?;
    let leaves = leaves(&footer.schema)?;
    let chosen = match choose(&|name| leaves.iter().any(|leaf| leaf.name == name)) {
        Some(names) => {
            leaves.iter().enumerate().filter(|(_, leaf)| names.contains(&leaf.name)).collect::<Vec<_>>()
        }
        None => leaves.iter().enumerate().collect(),
    };
    let schema: Vec<SchemaElement> = chosen.iter().map(|(_, leaf)| leaf.checked()).collect::<Result<_>>()?;
    let mut names = BTreeSet::new();
    for (_, leaf) in &chosen {
        ensure!(names.insert(&leaf.name), "two columns `{}`", leaf.name);
    }

    let mut counts = footer.row_groups.iter().map(|group| u64::try_from(group.num_rows).ok());
    let rows = counts
        .try_fold(0u64, |rows, count| rows.checked_add(count?))
        .context("a row group of less than no rows")?;
    ensure!(
        u64::try_from(footer.num_rows) == Ok(rows),
        "{} rows stated, but {rows} in row groups",
        footer.num_rows
    );
    let values = rows.saturating_mul(chosen.len().max(1) as u64);
    let most_values = MOST_VALUES.min(VALUES_FREE + VALUES_PER_BYTE * size);
    ensure!(
        values <= most_values,
        "{rows} rows of {} columns found in {size} bytes, expected at most {most_values} values",
        chosen.len()
    );

    let most_bytes = BYTES_FREE + EXPANSION * size;
    let mut budget = Budget { left: most_bytes, most: most_bytes };
    let mut groups = Vec::new();
    for (number, group) in footer.row_groups.iter().enumerate() {
        ensure!(
            group.columns.len() == leaves.len(),
            "row group {number}: {} columns, expected {}",
            group.columns.len(),
            leaves.len()
        );
        let mut columns = Vec::new();
        for ((place, leaf), element) in chosen.iter().zip(&schema) {
            let chunk = check_chunk(
                &bytes[..pages_end],
                &group.columns[*place],
                element,
                group.num_rows,
                &mut budget,
            );
            columns.push(chunk.with_context(|| format!("column `{}`, row group {number}", leaf.name))?);
        }
        groups.push(RowGroup::new(
            columns,
            group.total_byte_size.max(0),
            group.num_rows,
            None,
            None,
            None,
            None,
        ));
    }
    let columns = schema.len();
    let root =
        SchemaElement::new(None, None, None, "schema".into(), columns as i32, None, None, None, None, None);
    let footer = FileMetaData::new(
        1,
        [vec![root], schema].concat(),
        rows as i64,
        groups,
        None,
        None,
        None,
        None,
        None,
    );
    bytes.truncate(pages_end);
    let length = footer.write_to_out_protocol(&mut TCompactOutputProtocol::new(&mut bytes))?;
    bytes.extend_from_slice(&u32::try_from(length)?.to_le_bytes());
    bytes.extend_from_slice(MAGIC);
    Ok(Checked { bytes, rows: usize::try_from(rows)?, columns, most_text_bytes: most_bytes })
}

/// Where pages end and the footer begins.
fn footer_start(bytes: &[u8]) -> Result<usize> {
    ensure!(bytes.starts_with(MAGIC), "no Parquet: it does not begin with PAR1");
    let end = bytes.len().saturating_sub(8);
    let (length, magic) = bytes[end..].split_at(bytes.len().min(8) - 4);
    ensure!(end >= 4 && magic == MAGIC, "cut short, or no Parquet: it does not end with PAR1");
    let length = u32::from_le_bytes(length.try_into()?);
    let start = usize::try_from(length)
        .ok()
        .and_then(|length| end.checked_sub(length))
        .filter(|start| *start >= MAGIC.len());
    start.with_context(|| format!("a footer of {length} bytes stated in a file of {}", bytes.len()))
}

fn parse_footer(mut footer: &[u8]) -> Result<FileMetaData> {
    let most = footer.len().saturating_mul(COUNTED_PER_BYTE);
    FileMetaData::read_from_in_protocol(&mut TCompactInputProtocol::new(&mut footer, most))
        .context("an unreadable footer")
}

/// A column of the file.
struct Leaf<'a> {
    /// Of the field of the table that it is, or is a part of.
    name: String,
    element: &'a SchemaElement,
    nested: bool,
}

/// The columns in the order of a row group's chunks.
fn leaves(schema: &[SchemaElement]) -> Result<Vec<Leaf<'_>>> {
    let children = |element: &SchemaElement| usize::try_from(element.num_children.unwrap_or(0)).ok();
    let (root, elements) = schema.split_first().context("a footer without a schema")?;
    let mut leaves = Vec::new();
    // Children that are still to come at each level below the root, and the field they are of.
    let mut open: Vec<usize> = Vec::new();
    let mut fields = 0;
    let mut field = "";
    for element in elements {
        let children = children(element).context("a field with less than no parts")?;
        if open.is_empty() {
            (field, fields) = (&element.name, fields + 1);
        }
        let nested = !open.is_empty();
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push(children);
        } else {
            leaves.push(Leaf { name: field.to_owned(), element, nested });
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    ensure!(open.is_empty() && children(root) == Some(fields), "a schema whose fields do not add up");
    Ok(leaves)
}

impl Leaf<'_> {
    /// Its definition without what is of no use here. Fails on what no table that is read here has.
    fn checked(&self) -> Result<SchemaElement> {
        const EXPECTED: &str = "expected one boolean, integer, float or UTF-8 text a row";
        let Self { name, element, nested } = self;
        let flat = [FieldRepetitionType::REQUIRED, FieldRepetitionType::OPTIONAL];
        let repetition = element.repetition_type.filter(|repetition| flat.contains(repetition));
        ensure!(!nested && repetition.is_some(), "column `{name}`: nested values found, {EXPECTED}");
        let type_ = element.type_.unwrap_or(Type(-1));
        let type_name =
            TYPES.iter().find(|(known, _)| *known == type_).map_or("an unknown type", |(_, name)| name);
        let meaning = match (type_, meaning(element)) {
            (Type::BOOLEAN | Type::FLOAT | Type::DOUBLE, Meaning::Plain) => None,
            (Type::INT32 | Type::INT64, Meaning::Plain | Meaning::Integer { is_signed: true, .. }) => None,
            // Fits into what holds it, with a bit for the sign.
            (Type::INT32, Meaning::Integer { bits: ..32, .. }) => None,
            (Type::INT32, Meaning::Integer { .. }) => Some(ConvertedType::UINT_32),
            (Type::INT64, Meaning::Integer { .. }) => Some(ConvertedType::UINT_64),
            (Type::BYTE_ARRAY, Meaning::Text) => Some(ConvertedType::UTF8),
            _ => bail!("column `{name}`: {type_name} of another meaning found, {EXPECTED}"),
        };
        Ok(SchemaElement::new(type_, None, repetition, name.clone(), None, meaning, None, None, None, None))
    }
}

/// What a file says its values stand for.
enum Meaning {
    Plain,
    Integer { bits: i8, is_signed: bool },
    Text,
    Other,
}

fn meaning(element: &SchemaElement) -> Meaning {
    match (&element.logical_type, element.converted_type) {
        (None, None) => Meaning::Plain,
        (Some(LogicalType::STRING(_)), _) | (None, Some(ConvertedType::UTF8)) => Meaning::Text,
        (Some(LogicalType::INTEGER(integer)), _) => {
            Meaning::Integer { bits: integer.bit_width, is_signed: integer.is_signed }
        }
        (
            None,
            Some(
                ConvertedType::INT_8 | ConvertedType::INT_16 | ConvertedType::INT_32 | ConvertedType::INT_64,
            ),
        ) => Meaning::Integer { bits: 64, is_signed: true },
        (None, Some(ConvertedType::UINT_8 | ConvertedType::UINT_16)) => {
            Meaning::Integer { bits: 16, is_signed: false }
        }
        (None, Some(ConvertedType::UINT_32 | ConvertedType::UINT_64)) => {
            Meaning::Integer { bits: 64, is_signed: false }
        }
        _ => Meaning::Other,
    }
}

/// Bytes that pages may still decompress to.
struct Budget {
    left: u64,
    most: u64,
}

impl Budget {
    fn take(&mut self, bytes: u64) -> Result<()> {
        self.left = self
            .left
            .checked_sub(bytes)
            .with_context(|| format!("decompresses to more than {} bytes", self.most))?;
        Ok(())
    }
}

/// The chunk as far as it is needed, once its pages are found to be in `pages` and to hold `rows` values.
fn check_chunk(
    pages: &[u8],
    chunk: &ColumnChunk,
    element: &SchemaElement,
    rows: i64,
    budget: &mut Budget,
) -> Result<ColumnChunk> {
    let about = chunk.meta_data.as_ref().context("nothing is said of its pages")?;
    ensure!(
        chunk.file_path.is_none() && chunk.crypto_metadata.is_none(),
        "pages in another file, or encrypted"
    );
    ensure!(Some(about.type_) == element.type_, "its pages are of another type");
    ensure!(about.num_values == rows, "{} values found, expected {rows}", about.num_values);
    let codecs = [
        CompressionCodec::UNCOMPRESSED,
        CompressionCodec::SNAPPY,
        CompressionCodec::GZIP,
        CompressionCodec::ZSTD,
        CompressionCodec::LZ4_RAW,
    ];
    ensure!(
        codecs.contains(&about.codec),
        "compression {} found, expected none, Snappy, gzip, Zstandard or LZ4_RAW",
        about.codec.0
    );
    let start = about.dictionary_page_offset.unwrap_or(about.data_page_offset);
    let place = || {
        let start = usize::try_from(start).ok().filter(|start| *start >= MAGIC.len())?;
        let end = start.checked_add(usize::try_from(about.total_compressed_size).ok()?)?;
        pages.get(start..end)
    };
    let place = place().with_context(|| {
        format!("{} bytes at {start} stated, which are not in the file", about.total_compressed_size)
    })?;
    let bytes = check_pages(place, about.codec, rows, budget)?;
    let encodings = vec![Encoding::PLAIN];
    let about = ColumnMetaData::new(
        about.type_,
        encodings,
        vec![element.name.clone()],
        about.codec,
        rows,
        bytes as i64,
        about.total_compressed_size,
        None,
        start,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
    );
    Ok(ColumnChunk::new(None, start, about, None, None, None, None, None, None))
}

/// Walks the pages as a reader does, and returns how many bytes they decompress to.
fn check_pages(mut rest: &[u8], codec: CompressionCodec, rows: i64, budget: &mut Budget) -> Result<u64> {
    let (mut values, mut bytes) = (0i64, 0u64);
    let mut is_first = true;
    while !rest.is_empty() && (is_first || values < rows) {
        let header =
            PageHeader::read_from_in_protocol(&mut TCompactInputProtocol::new(&mut rest, MOST_HEADER_BYTES));
        let header = header.context("an unreadable page header")?;
        let [compressed, uncompressed] = [header.compressed_page_size, header.uncompressed_page_size]
            .map(|size| usize::try_from(size).ok());
        let page = compressed.and_then(|size| rest.split_at_checked(size));
        let (page, behind) = page.with_context(|| {
            format!("a page of {} bytes stated, {} are left", header.compressed_page_size, rest.len())
        })?;
        let uncompressed = uncompressed.context("a page of less than no bytes")?;
        budget.take(uncompressed as u64)?;
        bytes += uncompressed as u64;
        let is_compressed = codec != CompressionCodec::UNCOMPRESSED;
        ensure!(
            is_compressed || page.len() == uncompressed,
            "a page that is not compressed, of {} and of {uncompressed} bytes",
            page.len()
        );
        values += match (
            header.type_,
            &header.data_page_header,
            &header.data_page_header_v2,
            &header.dictionary_page_header,
        ) {
            (PageType::DATA_PAGE, Some(data), ..) => check_data(data)?,
            (PageType::DATA_PAGE_V2, _, Some(data), _) => check_data_v2(data, page.len(), uncompressed)?,
            (PageType::DICTIONARY_PAGE, .., Some(dictionary)) if is_first => {
                check_dictionary(dictionary, uncompressed)?
            }
            (kind, ..) => bail!("a page of kind {} found where none is expected", kind.0),
        };
        rest = behind;
        is_first = false;
    }
    ensure!(values == rows, "{values} values found in pages, expected {rows}");
    Ok(bytes)
}

fn check_data(data: &DataPageHeader) -> Result<i64> {
    check_encoding(data.encoding)?;
    ensure!(
        data.definition_level_encoding == Encoding::RLE,
        "definition levels of encoding {}",
        data.definition_level_encoding.0
    );
    ensure!(data.num_values >= 0, "a page of {} values", data.num_values);
    Ok(data.num_values.into())
}

fn check_data_v2(data: &DataPageHeaderV2, compressed: usize, uncompressed: usize) -> Result<i64> {
    check_encoding(data.encoding)?;
    let levels = usize::try_from(data.definition_levels_byte_length).ok();
    let fits = levels.is_some_and(|levels| levels <= compressed.min(uncompressed))
        && data.repetition_levels_byte_length == 0;
    ensure!(fits, "a page of {compressed} bytes with {} of levels", data.definition_levels_byte_length);
    ensure!(
        data.is_compressed != Some(false) || compressed == uncompressed,
        "a page of {compressed} bytes, uncompressed {uncompressed}"
    );
    let counts = data.num_values >= 0
        && data.num_rows == data.num_values
        && (0..=data.num_values).contains(&data.num_nulls);
    ensure!(
        counts,
        "a page of {} values, {} rows and {} nulls",
        data.num_values,
        data.num_rows,
        data.num_nulls
    );
    Ok(data.num_values.into())
}

fn check_encoding(encoding: Encoding) -> Result<()> {
    let known = [Encoding::PLAIN, Encoding::PLAIN_DICTIONARY, Encoding::RLE_DICTIONARY, Encoding::RLE];
    ensure!(
        known.contains(&encoding),
        "values of encoding {} found, expected plain, dictionary or RLE",
        encoding.0
    );
    Ok(())
}

/// Has no values of rows, and no more entries than bytes.
fn check_dictionary(dictionary: &DictionaryPageHeader, uncompressed: usize) -> Result<i64> {
    let fits = usize::try_from(dictionary.num_values).is_ok_and(|entries| entries <= uncompressed);
    ensure!(fits, "a dictionary of {} entries in {uncompressed} bytes", dictionary.num_values);
    Ok(0)
}

#[cfg(test)]
mod tests;
