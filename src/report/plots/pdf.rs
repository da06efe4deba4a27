//! A figure as a PDF of one page, from the SVG that is drawn: lines and areas, and text as outlines, so that
//! no font has to be embedded.
//!
//! `svg2pdf` and `krilla-svg` do this for any SVG, from trees of older versions of `usvg` than `resvg` paints
//! here; what our figures hold is paths alone, once text is outlines.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Result, bail, ensure};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::types::{LineCapStyle, LineJoinStyle};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, TextStr};
use resvg::tiny_skia::{PathSegment, Transform};
use resvg::usvg::{FillRule, Group, LineCap, LineJoin, Node, Opacity, Paint, Path};

use super::figure::tree;
use super::style::POINTS_PER_MM;

/// The page of an SVG of ours, `width_mm` wide, with the title that viewers show.
pub fn of_svg(svg: &str, width_mm: f64, title: &str) -> Result<Vec<u8>> {
    let tree = tree(svg)?;
    let width = (width_mm * POINTS_PER_MM) as f32;
    let scale = width / tree.size().width();
    let height = tree.size().height() * scale;
    let mut page = Page {
        content: Content::new(),
        opacities: BTreeMap::new(),
        to_page: Transform::from_row(scale, 0.0, 0.0, -scale, 0.0, height),
    };
    page.paint(tree.root())?;
    let Page { content, opacities, .. } = page;

    let [catalog, pages, only, stream, info] = [1, 2, 3, 4, 5].map(Ref::new);
    let state = |number: usize| Ref::new(6 + number as i32);
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(pages);
    pdf.pages(pages).kids([only]).count(1);
    let mut sheet = pdf.page(only);
    sheet.media_box(Rect::new(0.0, 0.0, width, height)).parent(pages).contents(stream);
    let mut resources = sheet.resources();
    let mut states = resources.ext_g_states();
    for number in opacities.values() {
        states.pair(Name(name(*number).as_bytes()), state(*number));
    }
    states.finish();
    resources.finish();
    sheet.finish();
    for (opacity, number) in &opacities {
        let opacity = f32::from_bits(*opacity);
        pdf.ext_graphics(state(*number)).stroking_alpha(opacity).non_stroking_alpha(opacity);
    }
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::new(6));
    packed.write_all(&content.finish())?;
    pdf.stream(stream, &packed.finish()?).filter(Filter::FlateDecode);
    // No date: equal figures are equal files.
    pdf.document_info(info)
        .title(TextStr(title))
        .creator(TextStr(concat!("scalefront ", env!("CARGO_PKG_VERSION"))));
    Ok(pdf.finish())
}

fn name(number: usize) -> String {
    format!("O{number}")
}

struct Page {
    content: Content,
    /// Number of the graphics state of each opacity, by its bits.
    opacities: BTreeMap<u32, usize>,
    to_page: Transform,
}

impl Page {
    fn paint(&mut self, group: &Group) -> Result<()> {
        let plain = group.opacity() == Opacity::ONE
            && group.clip_path().is_none()
            && group.mask().is_none()
            && group.filters().is_empty();
        ensure!(plain, "a figure holds a group with effects, which its PDF would not show");
        for node in group.children() {
            match node {
                Node::Group(group) => self.paint(group)?,
                Node::Text(text) => self.paint(text.flattened())?,
                Node::Path(path) if path.is_visible() => self.path(path)?,
                Node::Path(_) => {}
                Node::Image(_) => bail!("a figure holds an image, which its PDF would not show"),
            }
        }
        Ok(())
    }

    fn path(&mut self, path: &Path) -> Result<()> {
        let to_page = self.to_page.pre_concat(path.abs_transform());
        if let Some(fill) = path.fill() {
            let [r, g, b] = colour(fill.paint())?;
            self.opacity(fill.opacity());
            self.content.set_fill_rgb(r, g, b);
            self.outline(path, to_page);
            match fill.rule() {
                FillRule::NonZero => self.content.fill_nonzero(),
                FillRule::EvenOdd => self.content.fill_even_odd(),
            };
        }
        if let Some(stroke) = path.stroke() {
            let [r, g, b] = colour(stroke.paint())?;
            let scale = to_page.get_scale().0;
            self.opacity(stroke.opacity());
            self.content.set_stroke_rgb(r, g, b).set_line_width(rounded(stroke.width().get() * scale));
            self.content.set_line_cap(match stroke.linecap() {
                LineCap::Butt => LineCapStyle::ButtCap,
                LineCap::Round => LineCapStyle::RoundCap,
                LineCap::Square => LineCapStyle::ProjectingSquareCap,
            });
            self.content.set_line_join(match stroke.linejoin() {
                LineJoin::Round => LineJoinStyle::RoundJoin,
                LineJoin::Bevel => LineJoinStyle::BevelJoin,
                LineJoin::Miter | LineJoin::MiterClip => LineJoinStyle::MiterJoin,
            });
            let dashes = stroke.dasharray().unwrap_or_default().iter().map(|dash| rounded(dash * scale));
            self.content.set_dash_pattern(dashes, rounded(stroke.dashoffset() * scale));
            self.outline(path, to_page);
            self.content.stroke();
        }
        Ok(())
    }

    fn opacity(&mut self, opacity: Opacity) {
        let next = self.opacities.len();
        let number = *self.opacities.entry(opacity.get().to_bits()).or_insert(next);
        self.content.set_parameters(Name(name(number).as_bytes()));
    }

    fn outline(&mut self, path: &Path, to_page: Transform) {
        let at = |mut point: resvg::tiny_skia::Point| {
            to_page.map_point(&mut point);
            (rounded(point.x), rounded(point.y))
        };
        let (mut start, mut last) = ((0.0, 0.0), (0.0, 0.0));
        for segment in path.data().segments() {
            match segment {
                PathSegment::MoveTo(point) => {
                    (start, last) = (at(point), at(point));
                    self.content.move_to(last.0, last.1);
                }
                PathSegment::LineTo(point) => {
                    last = at(point);
                    self.content.line_to(last.0, last.1);
                }
                PathSegment::QuadTo(control, point) => {
                    let (control, end) = (at(control), at(point));
                    let towards = |from: (f32, f32)| {
                        (from.0 + 2.0 / 3.0 * (control.0 - from.0), from.1 + 2.0 / 3.0 * (control.1 - from.1))
                    };
                    let (a, b) = (towards(last), towards(end));
                    self.content.cubic_to(
                        rounded(a.0),
                        rounded(a.1),
                        rounded(b.0),
                        rounded(b.1),
                        end.0,
                        end.1,
                    );
                    last = end;
                }
                PathSegment::CubicTo(a, b, point) => {
                    let (a, b, end) = (at(a), at(b), at(point));
                    self.content.cubic_to(a.0, a.1, b.0, b.1, end.0, end.1);
                    last = end;
                }
                PathSegment::Close => {
                    self.content.close_path();
                    last = start;
                }
            }
        }
    }
}

/// To a thousandth of a point: files stay small.
fn rounded(value: f32) -> f32 {
    (value * 1000.0).round() / 1000.0
}

fn colour(paint: &Paint) -> Result<[f32; 3]> {
    match paint {
        Paint::Color(colour) => {
            Ok([colour.red, colour.green, colour.blue].map(|part| f32::from(part) / 255.0))
        }
        _ => bail!("a figure holds a gradient or a pattern, which its PDF would not show"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::report::plots::figure::{Anchor, INK, Line, draw};
    use crate::report::plots::style::Style;

    /// Where `needle` begins in `text`.
    fn find(text: &[u8], needle: &str) -> usize {
        text.windows(needle.len())
            .position(|window| window == needle.as_bytes())
            .unwrap_or_else(|| panic!("no {needle}"))
    }

    /// What stands between two words.
    fn between(text: &[u8], before: &str, after: &str) -> String {
        let from = find(text, before) + before.len();
        let to = from + find(&text[from..], after);
        String::from_utf8(text[from..to].to_vec()).unwrap()
    }

    /// A figure of 200 by 100 as a page of 84 mm: its objects are where its table says, its page is as wide
    /// as asked for, and it draws what was drawn, text as outlines.
    #[test]
    fn a_page_is_valid_and_as_wide_as_asked_for() {
        let svg = draw((200, 100), Style::Paper, |figure| {
            figure.line(
                &[(10.0, 10.0), (190.0, 90.0)],
                Line { opacity: 0.5, dash: Some((4.0, 2.0)), ..Line::solid(INK, 2.0) },
            )?;
            figure.text("o", (100.0, 50.0), 12.0, INK, Anchor::Middle)
        });
        let pdf = of_svg(&svg.unwrap(), 84.0, "A title").unwrap();
        assert!(pdf.starts_with(b"%PDF-1.") && pdf.ends_with(b"%%EOF"));
        let box_pt: Vec<f64> =
            between(&pdf, "/MediaBox [", "]").split(' ').map(|number| number.parse().unwrap()).collect();
        assert!(
            (box_pt[2] / POINTS_PER_MM - 84.0).abs() < 1e-3
                && (box_pt[3] / POINTS_PER_MM - 42.0).abs() < 1e-3,
            "{box_pt:?}"
        );
        // The table of objects.
        let xref: usize = between(&pdf, "startxref\n", "\n").parse().unwrap();
        let table = String::from_utf8(pdf[xref..].to_vec()).unwrap();
        let mut lines = table.lines();
        assert_eq!(lines.next(), Some("xref"));
        let count: usize = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        for (number, line) in lines.take(count).enumerate().skip(1) {
            let offset: usize = line[..10].parse().unwrap();
            assert!(
                pdf[offset..].starts_with(format!("{number} 0 obj").as_bytes()),
                "object {number} is not at {offset}"
            );
        }
        // What is drawn.
        let length: usize = between(&pdf, "/Length ", "\n").trim().parse().unwrap();
        let from = find(&pdf, "stream\n") + "stream\n".len();
        let mut content = String::new();
        flate2::read::ZlibDecoder::new(&pdf[from..from + length]).read_to_string(&mut content).unwrap();
        let operators = |name: &str| {
            content.lines().filter(|line| line.ends_with(&format!(" {name}")) || *line == name).count()
        };
        assert!(operators("S") > 10, "dashes: {content}");
        assert!(operators("c") >= 8, "an o has two outlines: {content}");
        assert_eq!((operators("Tj"), between(&pdf, "/Title (", ")")), (0, "A title".to_owned()));
        let inside =
            content.lines().filter(|line| line.ends_with(" l") || line.ends_with(" m")).all(|line| {
                let numbers: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
                numbers.len() == 2
                    && (0.0..=box_pt[2]).contains(&numbers[0])
                    && (0.0..=box_pt[3]).contains(&numbers[1])
            });
        assert!(inside, "nothing lies outside the page: {content}");
        assert!(find(&pdf, "/CA 0.5") > 0, "the line is half transparent");
    }

    #[test]
    fn what_a_page_would_not_show_is_an_error() {
        let faded = r##"<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><g opacity="0.5"><path d="M0 0L9 9M0 9L9 0" stroke="#000"/></g></svg>"##;
        assert!(of_svg(faded, 84.0, "").unwrap_err().to_string().contains("a group with effects"));
    }
}
