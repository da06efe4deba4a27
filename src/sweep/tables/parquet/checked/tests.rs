//! Files that lie: each is a good one whose footer says something else.

use std::io::Cursor;

use polars::prelude::{
    Column, DataFrame, DataType, NamedFrom, ParquetCompression, ParquetReader, ParquetWriter, SerReader,
    Series,
};
use polars_parquet_format::{IntType, KeyValue, StringType, TimeUnit, TimestampType};

use super::super::read;
use super::*;

fn frame() -> DataFrame {
    let texts: Vec<Option<String>> =
        (0..300).map(|i| (i % 7 > 0).then(|| format!("text {}", i % 20))).collect();
    let numbers: Vec<f64> = (0..300).map(|i| f64::from(i) / 8.0).collect();
    let counts: Vec<Option<i64>> = (0..300).map(|i| (i % 3 > 0).then_some(i)).collect();
    let flags: Vec<bool> = (0..300).map(|i| i % 5 == 0).collect();
    let small = Series::new("small".into(), (0..300).collect::<Vec<i32>>());
    let columns: Vec<Column> = vec![
        Column::new("text".into(), texts),
        Column::new("number".into(), numbers),
        Column::new("count".into(), counts),
        Column::new("flag".into(), flags),
        small.into(),
        Series::new("float".into(), vec![0.5f32; 300]).into(),
    ];
    DataFrame::new_infer_height(columns).unwrap()
}

fn file(compression: ParquetCompression) -> Vec<u8> {
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes)
        .with_compression(compression)
        .with_row_group_size(Some(100))
        .finish(&mut frame())
        .unwrap();
    bytes
}

/// The file with another footer.
fn retold(bytes: &[u8], change: impl FnOnce(&mut FileMetaData)) -> Vec<u8> {
    let start = footer_start(bytes).unwrap();
    let mut footer = parse_footer(&bytes[start..bytes.len() - 8]).unwrap();
    change(&mut footer);
    let mut retold = bytes[..start].to_vec();
    let length = footer.write_to_out_protocol(&mut TCompactOutputProtocol::new(&mut retold)).unwrap();
    retold.extend_from_slice(&(length as u32).to_le_bytes());
    retold.extend_from_slice(MAGIC);
    retold
}

fn read_bytes(bytes: &[u8], names: Option<&[&str]>) -> Result<DataFrame> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    std::fs::write(&path, bytes).unwrap();
    read(&path, None, |_| names.map(|names| names.iter().map(|name| name.to_string()).collect()))
}

#[test]
fn good_files_read_as_polars_reads_them() {
    use ParquetCompression::{Gzip, Lz4Raw, Snappy, Uncompressed, Zstd};
    for compression in [Uncompressed, Snappy, Gzip(None), Zstd(None), Lz4Raw] {
        let bytes = file(compression);
        let direct = ParquetReader::new(Cursor::new(bytes.clone())).finish().unwrap();
        let read = read_bytes(&bytes, None).unwrap();
        assert!(
            read.equals_missing(&direct) && read.equals_missing(&frame()) && read.schema() == direct.schema(),
            "{compression:?}"
        );
        let some = read_bytes(&bytes, Some(&["number", "flag", "absent"])).unwrap();
        assert!(some.equals_missing(&direct.select(["number", "flag"]).unwrap()));
        assert_eq!(read_bytes(&bytes, Some(&["absent"])).unwrap().shape(), (300, 0));
    }
}

#[test]
fn footers_that_lie_are_refused() {
    fn chunk(footer: &mut FileMetaData) -> &mut ColumnMetaData {
        footer.row_groups[1].columns[1].meta_data.as_mut().unwrap()
    }
    type Lie = fn(&mut FileMetaData);
    let lies: [(Lie, &str); 18] = [
        (|f| f.num_rows = i64::MAX, "9223372036854775807 rows stated, but 300 in row groups"),
        (|f| f.row_groups[0].num_rows = -1, "a row group of less than no rows"),
        (
            |f| {
                f.row_groups.iter_mut().for_each(|group| group.num_rows = 1 << 40);
                f.num_rows = 3 << 40;
            },
            "rows of 6 columns found in",
        ),
        (
            |f| {
                f.row_groups[0].num_rows = 101;
                f.num_rows = 301;
            },
            "column `text`, row group 0: 100 values found, expected 101",
        ),
        (|f| drop(f.row_groups[2].columns.pop()), "row group 2: 5 columns, expected 6"),
        (
            |f| f.row_groups[1].columns[1].meta_data = None,
            "column `number`, row group 1: nothing is said of its pages",
        ),
        (|f| f.row_groups[1].columns[1].file_path = Some("/etc/passwd".into()), "pages in another file"),
        (|f| chunk(f).data_page_offset = 1 << 40, "which are not in the file"),
        (|f| chunk(f).data_page_offset = -1, "which are not in the file"),
        (|f| chunk(f).total_compressed_size = i64::MAX, "which are not in the file"),
        (|f| chunk(f).total_compressed_size -= 1, "a page of"),
        (|f| chunk(f).codec = CompressionCodec::LZO, "compression 3 found"),
        (|f| chunk(f).codec = CompressionCodec::UNCOMPRESSED, "a page that is not compressed"),
        (|f| chunk(f).type_ = Type::INT32, "its pages are of another type"),
        (|f| f.schema[0].num_children = Some(1_000_000_000), "a schema whose fields do not add up"),
        (|f| f.schema[2].num_children = Some(-1), "a field with less than no parts"),
        (|f| f.schema[2].name = "text".into(), "two columns `text`"),
        (|f| f.schema.clear(), "a footer without a schema"),
    ];
    let bytes = file(ParquetCompression::Snappy);
    for (lie, expected) in lies {
        let error = format!("{:#}", read_bytes(&retold(&bytes, lie), None).unwrap_err());
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// Many row groups that share pages make much of little.
#[test]
fn tables_that_grow_beyond_measure_are_refused() {
    let repeated = |bytes: &[u8], times: usize| {
        retold(bytes, |footer| {
            let group = footer.row_groups[0].clone();
            footer.num_rows += group.num_rows * times as i64;
            footer.row_groups.extend(vec![group; times]);
        })
    };
    let many = repeated(&file(ParquetCompression::Snappy), 500);
    assert_eq!(read_bytes(&many, None).unwrap().height(), 300 + 500 * 100);
    let write = |column: Column| {
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes)
            .finish(&mut DataFrame::new_infer_height(vec![column]).unwrap())
            .unwrap();
        bytes
    };
    let error = read_bytes(&repeated(&write(Column::new("a".into(), vec![1i64; 8192])), 1000), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("8200192 rows of 1 columns found"), "{error}");

    let long = "a".repeat(1_000_000);
    let error = format!(
        "{:#}",
        read_bytes(&repeated(&write(Column::new("a".into(), [long.as_str()])), 100), None).unwrap_err()
    );
    assert!(error.contains("decompresses to more than"), "{error}");

    // A text in a dictionary costs little, and the same in each row much.
    let error = read_bytes(&write(Column::new("text".into(), vec![&long[..100_000]; 10_000])), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("1000000000 bytes of text found"), "{error}");
}

#[test]
fn what_is_of_no_use_is_ignored_or_named() {
    let bytes = retold(&file(ParquetCompression::Zstd(None)), |footer| {
        footer.schema[3].logical_type =
            Some(LogicalType::TIMESTAMP(TimestampType::new(true, TimeUnit::NANOS(Default::default()))));
        footer.schema[3].converted_type = None;
        footer.schema[5].logical_type = Some(LogicalType::INTEGER(IntType::new(8, false)));
        footer.schema[5].converted_type = Some(ConvertedType::UINT_8);
        footer.key_value_metadata = Some(vec![KeyValue::new("ARROW:schema".into(), Some("!".into()))]);
    });
    let read = read_bytes(&bytes, Some(&["small", "text"])).unwrap();
    assert_eq!(read.column("small").unwrap().dtype(), &DataType::Int32);
    let error = read_bytes(&bytes, None).unwrap_err().to_string();
    assert!(
        error
            .contains("column `count`: INT64 of another meaning found, expected one boolean, integer, float"),
        "{error}"
    );

    let nested = retold(&file(ParquetCompression::Zstd(None)), |footer| {
        let part = SchemaElement::new(
            None,
            None,
            FieldRepetitionType::OPTIONAL,
            "pair".into(),
            2,
            None,
            None,
            None,
            None,
            None,
        );
        footer.schema.insert(2, part);
        footer.schema[0].num_children = Some(5);
    });
    assert_eq!(read_bytes(&nested, Some(&["text", "flag"])).unwrap().shape(), (300, 2));
    let error = read_bytes(&nested, Some(&["pair"])).unwrap_err().to_string();
    assert!(error.contains("column `pair`: nested values found"), "{error}");

    let text = retold(&file(ParquetCompression::Zstd(None)), |footer| {
        footer.schema[2].logical_type = Some(LogicalType::STRING(StringType::new()));
    });
    assert!(
        read_bytes(&text, None)
            .unwrap_err()
            .to_string()
            .contains("column `number`: DOUBLE of another meaning")
    );
}
