//! A figure of print quality: plotters draws it eight times too large, since its coordinates are whole
//! numbers, and the SVG's view box brings it back to size. `resvg` paints the PNG from the same SVG, with the
//! same embedded font.
//!
//! Sizes here are in points of the final figure; [`Figure`] multiplies.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, LazyLock, Once};

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::{tiny_skia, usvg};

use super::axis::Axis;
use super::style::Style;
use crate::report::palette::Look;

static FONT: &[u8] = include_bytes!("../assets/DejaVuSans.ttf");
const SCALE: i32 = 8;
/// Pixels of the PNG per point.
const PNG_SCALE: f32 = 2.0;
/// Of 9 levels; beyond, the file shrinks by 4 % for a quarter more time.
const PNG_EFFORT: u8 = 4;
/// plotters' SVG text comes out smaller than asked for by this factor.
const SVG_TEXT: f64 = 1.24;

pub const INK: RGBColor = RGBColor(34, 34, 34);
pub const FAINT_INK: RGBColor = RGBColor(105, 105, 105);
const GRID: RGBColor = RGBColor(228, 228, 228);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A sheet to draw on, white.
pub struct Figure<'a> {
    area: Area<'a>,
    pub style: Style,
    /// For the caption.
    notes: RefCell<Vec<String>>,
}

/// A figure, and what a caption has to say of it because it does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    pub svg: String,
    pub notes: Vec<String>,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub colour: RGBColor,
    pub opacity: f64,
    pub width: f64,
    /// Length of dashes and of gaps; None is solid.
    pub dash: Option<(f64, f64)>,
}

impl Line {
    pub fn solid(colour: RGBColor, width: f64) -> Self {
        Self { colour, opacity: 1.0, width, dash: None }
    }
}

/// Where text stands relative to its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Anchor {
    Left,
    Middle,
    Right,
}

pub fn colour(look: Look) -> RGBColor {
    let (r, g, b) = look.colour;
    RGBColor(r, g, b)
}

/// Draws a figure of `size` points and returns it as SVG.
pub fn draw(size: (i32, i32), style: Style, paint: impl FnOnce(&Figure) -> Result<()>) -> Result<String> {
    Ok(draw_noted(size, style, paint)?.svg)
}

/// The same, with what a caption has to say.
pub fn draw_noted(
    size: (i32, i32),
    style: Style,
    paint: impl FnOnce(&Figure) -> Result<()>,
) -> Result<Drawn> {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        for style in [FontStyle::Normal, FontStyle::Bold] {
            // It fails on a font that cannot be parsed; ours is embedded and drawn by every test of plots.
            let _ = plotters::style::register_font("sans-serif", style, FONT);
        }
    });
    let mut svg = String::new();
    let notes;
    let large = (size.0 * SCALE, size.1 * SCALE);
    {
        let area = SVGBackend::with_string(&mut svg, (large.0 as u32, large.1 as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let figure = Figure { area, style, notes: RefCell::default() };
        paint(&figure)?;
        figure.area.present()?;
        notes = figure.notes.take();
    }
    let declared = format!("width=\"{}\" height=\"{}\"", large.0, large.1);
    anyhow::ensure!(
        svg.contains(&declared),
        "plotters no longer declares the size of its SVG as `{declared}`"
    );
    let family = "font-family=\"sans-serif\"";
    let svg = of_paint_alone(&svg)
        .replacen(&declared, &format!("width=\"{}\" height=\"{}\"", size.0, size.1), 1)
        .replace(family, "font-family=\"DejaVu Sans, Verdana, sans-serif\"");
    Ok(Drawn { svg, notes })
}

/// The same picture with every opacity that of fill and stroke. What plotters draws has one of the two, and
/// an opacity of the whole element would be painted as a picture of its own that is laid over the rest: half
/// of the time that figures take.
fn of_paint_alone(svg: &str) -> String {
    let mut whole = String::with_capacity(svg.len());
    for (place, part) in svg.split('<').enumerate() {
        if place > 0 {
            whole.push('<');
        }
        let (tag, text) = part.split_once('>').map_or((part, None), |(tag, text)| (tag, Some(text)));
        match tag.split_once(" opacity=\"").and_then(|(before, after)| Some((before, after.split_once('"')?)))
        {
            Some((before, ("1", after))) => whole.extend([before, after]),
            Some((before, (opacity, after))) => {
                whole.extend([
                    before,
                    " fill-opacity=\"",
                    opacity,
                    "\" stroke-opacity=\"",
                    opacity,
                    "\"",
                    after,
                ]);
            }
            None => whole.push_str(tag),
        }
        text.into_iter().for_each(|text| whole.extend([">", text]));
    }
    whole
}

/// An SVG of [`draw`] with its text set in the font that is embedded.
pub fn tree(svg: &str) -> Result<usvg::Tree> {
    static FONTS: LazyLock<Arc<usvg::fontdb::Database>> = LazyLock::new(|| {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_source(usvg::fontdb::Source::Binary(Arc::new(FONT)));
        fonts.set_sans_serif_family("DejaVu Sans");
        Arc::new(fonts)
    });
    let options = usvg::Options {
        font_family: "DejaVu Sans".into(),
        fontdb: FONTS.clone(),
        ..usvg::Options::default()
    };
    Ok(usvg::Tree::from_str(svg, &options)?)
}

/// Paints an SVG of [`draw`] as PNG.
pub fn to_png(svg: &str) -> Result<Vec<u8>> {
    let tree = tree(svg)?;
    let size = tree.size().to_int_size().scale_by(PNG_SCALE).context("an empty figure")?;
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height()).context("an empty figure")?;
    pixels.fill(tiny_skia::Color::WHITE);
    resvg::render(&tree, tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE), &mut pixels.as_mut());
    encoded(pixels.data(), size.width(), size.height())
}

/// Opaque pixels, red, green, blue and 255 each, as PNG: with a palette where that is enough, which takes a
/// third of the bytes to be deflated.
///
/// Lines on white are best left unfiltered: filters are chosen by what suits photographs, which takes three
/// times as long as all the rest here, and the file is a tenth larger.
fn encoded(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let (pixels, _) = pixels.as_chunks::<4>();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.set_deflate_compression(png::DeflateCompression::Level(PNG_EFFORT));
    let of_palette = indexed(pixels);
    match &of_palette {
        None => encoder.set_color(png::ColorType::Rgb),
        Some((colours, _)) => {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(colours.as_flattened());
        }
    }
    let mut header = encoder.write_header()?;
    let mut rows = header.stream_writer()?;
    match of_palette {
        Some((_, places)) => rows.write_all(&places)?,
        None => {
            let mut row = vec![[0; 3]; width as usize];
            for pixels in pixels.chunks_exact(width as usize) {
                row.iter_mut().zip(pixels).for_each(|(to, from)| *to = opaque(from));
                rows.write_all(row.as_flattened())?;
            }
        }
    }
    rows.finish()?;
    drop(header);
    Ok(file)
}

fn opaque(&[red, green, blue, _]: &[u8; 4]) -> [u8; 3] {
    [red, green, blue]
}

/// The colours of pixels in the order in which they come first, and the place of each pixel's among them;
/// none of more than 256 colours.
fn indexed(pixels: &[[u8; 4]]) -> Option<(Vec<[u8; 3]>, Vec<u8>)> {
    let (mut colours, mut places, mut known) =
        (Vec::new(), Vec::with_capacity(pixels.len()), BTreeMap::new());
    // Neighbours mostly have one colour.
    let mut latest: Option<(&[u8; 4], u8)> = None;
    for pixel in pixels {
        let place = match latest.filter(|&(colour, _)| colour == pixel) {
            Some((_, place)) => place,
            None => *known.entry(pixel).or_insert_with(|| {
                colours.push(opaque(pixel));
                u8::try_from(colours.len() - 1).unwrap_or_default()
            }),
        };
        if colours.len() > 256 {
            return None;
        }
        latest = Some((pixel, place));
        places.push(place);
    }
    Some((colours, places))
}

fn large(length: f64) -> i32 {
    (length * f64::from(SCALE)).round() as i32
}

impl Figure<'_> {
    pub fn line(&self, points: &[(f64, f64)], line: Line) -> Result<()> {
        let style =
            line.colour.mix(line.opacity).stroke_width(large(line.width * self.style.line()).max(1) as u32);
        let points = points.iter().map(|&(x, y)| (large(x), large(y)));
        match line.dash {
            None => self.area.draw(&PathElement::new(points.collect::<Vec<_>>(), style))?,
            Some((dash, gap)) => {
                self.area.draw(&DashedPathElement::new(
                    points.collect::<Vec<_>>(),
                    large(dash) as u32,
                    large(gap) as u32,
                    style,
                ))?;
            }
        }
        Ok(())
    }

    pub fn rectangle(&self, corners: [(f64, f64); 2], fill: RGBColor, opacity: f64) -> Result<()> {
        let corners = corners.map(|(x, y)| (large(x), large(y)));
        self.area.draw(&Rectangle::new(corners, fill.mix(opacity).filled()))?;
        Ok(())
    }

    fn polygon(&self, points: &[(f64, f64)], fill: RGBColor, opacity: f64) -> Result<()> {
        let points = points.iter().map(|&(x, y)| (large(x), large(y))).collect::<Vec<_>>();
        self.area.draw(&Polygon::new(points, fill.mix(opacity).filled()))?;
        Ok(())
    }

    /// A family's marker of `radius` around `at`.
    pub fn marker(&self, at: (f64, f64), look: Look, radius: f64, opacity: f64, edged: bool) -> Result<()> {
        let radius = radius * self.style.marker();
        let fill = colour(look).mix(opacity);
        let edge = WHITE.stroke_width(large(0.9) as u32);
        let place =
            |(dx, dy): (f64, f64), radius: f64| (large(at.0 + dx * radius), large(at.1 + dy * radius));
        let corners = look.marker.corners();
        let strokes = look.marker.strokes();
        // Corners on a circle enclose less than the circle: larger, they look as large.
        let corner_radius = radius * 1.25;
        if !corners.is_empty() {
            let corners = corners.into_iter().map(|corner| place(corner, corner_radius)).collect::<Vec<_>>();
            self.area.draw(&Polygon::new(corners.clone(), fill.filled()))?;
            if edged {
                let closed = corners.iter().copied().chain(corners.first().copied()).collect::<Vec<_>>();
                self.area.draw(&PathElement::new(closed, edge))?;
            }
        } else if !strokes.is_empty() {
            for stroke in strokes {
                let ends = stroke.map(|end| place(end, corner_radius)).to_vec();
                self.area.draw(&PathElement::new(ends, fill.stroke_width(large(radius * 0.55) as u32)))?;
            }
        } else {
            let centre = place((0.0, 0.0), 0.0);
            self.area.draw(&Circle::new(centre, large(radius), fill.filled()))?;
            if edged {
                self.area.draw(&Circle::new(centre, large(radius), edge))?;
            }
        }
        Ok(())
    }

    pub fn text(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        colour: RGBColor,
        anchor: Anchor,
    ) -> Result<()> {
        self.styled_text(text, at, size, colour, anchor, FontTransform::None)
    }

    /// What is said below the axes. In print it stands in the caption.
    pub fn note(&self, text: &str, at: (f64, f64)) -> Result<()> {
        if self.style.is_column() {
            self.notes.borrow_mut().push(text.to_owned());
            return Ok(());
        }
        self.text(&self.fit(text, SMALL_TEXT, 800.0)?, at, SMALL_TEXT, FAINT_INK, Anchor::Left)
    }

    /// What only a caption says.
    pub fn caption(&self, text: impl Into<String>) {
        if self.style.is_column() {
            self.notes.borrow_mut().push(text.into());
        }
    }

    fn styled_text(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        colour: RGBColor,
        anchor: Anchor,
        turn: FontTransform,
    ) -> Result<()> {
        let horizontal = match anchor {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        // XML knows no control characters.
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        let style = self
            .font(size)
            .transform(turn)
            .into_text_style(&self.area)
            .color(&colour)
            .pos(Pos::new(horizontal, VPos::Center));
        self.area.draw(&Text::new(text, (large(at.0), large(at.1)), style))?;
        Ok(())
    }

    pub fn text_width(&self, text: &str, size: f64) -> Result<f64> {
        let (width, _) = self.area.estimate_text_size(text, &self.font(size).into_text_style(&self.area))?;
        Ok(f64::from(width) / f64::from(SCALE))
    }

    fn font(&self, size: f64) -> FontDesc<'static> {
        ("sans-serif", size * self.style.text() * f64::from(SCALE) * SVG_TEXT).into_font()
    }

    /// `text` in at most `most` lines no wider than `width`, broken where its words part; the last is cut if
    /// it must.
    pub fn wrapped(&self, text: &str, size: f64, width: f64, most: usize) -> Result<Vec<String>> {
        let (mut lines, mut rest) = (Vec::new(), text.trim());
        while lines.len() + 1 < most && self.text_width(rest, size)? > width {
            let (line, after) = rest.split_at(self.parting(rest, size, width)?);
            lines.push(line.trim_end().to_owned());
            rest = after.trim_start();
        }
        lines.push(self.fit(rest, size, width)?);
        Ok(lines)
    }

    /// The byte of `text` before which to break it: after the last space that fits, or else the last other
    /// sign between words.
    fn parting(&self, text: &str, size: f64, width: f64) -> Result<usize> {
        let (mut fitting, mut space, mut sign) = (text.chars().next().map_or(0, char::len_utf8), None, None);
        for (at, letter) in text.char_indices() {
            let end = at + letter.len_utf8();
            if self.text_width(text[..end].trim_end(), size)? > width {
                break;
            }
            fitting = end;
            match letter {
                ' ' => space = Some(end),
                '/' | '_' | '-' | ',' => sign = Some(end),
                _ => {}
            }
        }
        Ok(space.or(sign).unwrap_or(fitting))
    }

    /// A size from `size` down to `least` at which `text` is no wider than `width`, if there is one.
    pub fn size_for(&self, text: &str, size: f64, least: f64, width: f64) -> Result<f64> {
        let wanted = self.text_width(text, size)?;
        Ok(if wanted > width { (size * width / wanted).clamp(least, size) } else { size })
    }

    /// `text`, cut with an ellipsis where it is wider than `width`.
    pub fn fit(&self, text: &str, size: f64, width: f64) -> Result<String> {
        if self.text_width(text, size)? <= width {
            return Ok(text.to_owned());
        }
        let mut letters = text.chars().collect::<Vec<_>>();
        while letters.pop().is_some() {
            let cut = letters.iter().collect::<String>() + "…";
            if self.text_width(&cut, size)? <= width {
                return Ok(cut);
            }
        }
        Ok(String::new())
    }
}

/// A rectangle of a figure with two axes. Data outside the axes is cut off, never moved onto the border.
pub struct Panel<'f, 'a> {
    figure: &'f Figure<'a>,
    pub x: Axis,
    pub y: Axis,
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

/// Text sizes of axes: legible when the figure is printed at half its size.
pub const TEXT: f64 = 14.0;
pub const SMALL_TEXT: f64 = 12.5;

impl<'f, 'a> Panel<'f, 'a> {
    /// Draws axes, grid, ticks and labels within `[left, top, right, bottom]`, the rectangle of the data.
    pub fn new(
        figure: &'f Figure<'a>,
        [left, top, right, bottom]: [f64; 4],
        x: Axis,
        y: Axis,
        label_x: bool,
    ) -> Result<Self> {
        let panel = Self { figure, x, y, left, top, right, bottom };
        let grid = Line::solid(GRID, 0.8);
        for (value, text) in panel.x.ticks() {
            let (x, _) = panel.place(value, panel.y.low);
            figure.line(&[(x, top), (x, bottom)], grid)?;
            figure.line(&[(x, bottom), (x, bottom + 4.0)], Line::solid(INK, 1.0))?;
            if label_x {
                figure.text(
                    &text,
                    (x, bottom + 13.0 * figure.style.text()),
                    SMALL_TEXT,
                    INK,
                    Anchor::Middle,
                )?;
            }
        }
        let mut widest = 0.0f64;
        for (value, text) in panel.y.ticks() {
            let (_, y) = panel.place(panel.x.low, value);
            figure.line(&[(left, y), (right, y)], grid)?;
            figure.line(&[(left - 4.0, y), (left, y)], Line::solid(INK, 1.0))?;
            figure.text(&text, (left - 8.0, y), SMALL_TEXT, INK, Anchor::Right)?;
            widest = widest.max(figure.text_width(&text, SMALL_TEXT)?);
        }
        if label_x {
            figure.text(
                &panel.x.label,
                ((left + right) / 2.0, bottom + 34.0 * figure.style.text()),
                TEXT,
                INK,
                Anchor::Middle,
            )?;
        }
        if !panel.y.label.is_empty() {
            panel.turned_label(&panel.y.label, left - widest - 24.0, (top + bottom) / 2.0)?;
        }
        Ok(panel)
    }

    /// Text read from below, centred on `(x, y)`, smaller where the panel is too low for it.
    pub fn turned_label(&self, text: &str, x: f64, y: f64) -> Result<()> {
        let size = self.figure.size_for(text, TEXT, TEXT / 2.0, self.bottom - self.top)?;
        self.figure.styled_text(text, (x, y), size, INK, Anchor::Middle, FontTransform::Rotate270)
    }

    /// The two axis lines, drawn last so that nothing covers them.
    pub fn finish(&self) -> Result<()> {
        self.figure.line(
            &[(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)],
            Line::solid(INK, 1.0),
        )
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        (
            self.left + self.x.fraction(x) * (self.right - self.left),
            self.bottom - self.y.fraction(y) * (self.bottom - self.top),
        )
    }

    pub fn contains(&self, x: f64, y: f64) -> bool {
        self.x.contains(x) && self.y.contains(y)
    }

    /// Where data lands on the figure; None outside the axes.
    pub fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        self.contains(x, y).then(|| self.place(x, y))
    }

    pub fn line(&self, points: &[(f64, f64)], line: Line) -> Result<()> {
        let placed = points.iter().map(|&(x, y)| self.place(x, y)).collect::<Vec<_>>();
        let mut piece: Vec<(f64, f64)> = Vec::new();
        for pair in placed.windows(2) {
            let Some((start, end)) = clip(pair[0], pair[1], [self.left, self.top, self.right, self.bottom])
            else {
                continue;
            };
            if piece.last() != Some(&start) {
                self.draw_piece(&piece, line)?;
                piece = vec![start];
            }
            piece.push(end);
        }
        self.draw_piece(&piece, line)
    }

    fn draw_piece(&self, piece: &[(f64, f64)], line: Line) -> Result<()> {
        if piece.len() > 1 { self.figure.line(piece, line) } else { Ok(()) }
    }

    /// Fills between two lines of horizontal and vertical pieces, which end at the same side, cut at the
    /// axes.
    pub fn fill_between(
        &self,
        lower: &[(f64, f64)],
        upper: &[(f64, f64)],
        fill: RGBColor,
        opacity: f64,
    ) -> Result<()> {
        // Such an outline stays true when its corners are moved to the border.
        let place = |&(x, y): &(f64, f64)| {
            self.place(x.clamp(self.x.low, self.x.high), y.clamp(self.y.low, self.y.high))
        };
        let outline = lower.iter().chain(upper.iter().rev()).map(place).collect::<Vec<_>>();
        self.figure.polygon(&outline, fill, opacity)
    }

    /// Fills from the low ends of both axes to a corner, cut at the axes.
    pub fn fill_to(&self, x: f64, y: f64, fill: RGBColor, opacity: f64) -> Result<()> {
        if x <= self.x.low || y <= self.y.low {
            return Ok(());
        }
        let (right, top) = self.place(x.min(self.x.high), y.min(self.y.high));
        self.figure.rectangle([(self.left, top), (right, self.bottom)], fill, opacity)
    }
}

/// The part of a segment inside a rectangle (Liang and Barsky).
fn clip(
    a: (f64, f64),
    b: (f64, f64),
    [left, top, right, bottom]: [f64; 4],
) -> Option<((f64, f64), (f64, f64))> {
    if ![a.0, a.1, b.0, b.1].iter().all(|v| v.is_finite()) {
        return None;
    }
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let (mut enter, mut leave) = (0.0f64, 1.0f64);
    for (change, room) in [(-dx, a.0 - left), (dx, right - a.0), (-dy, a.1 - top), (dy, bottom - a.1)] {
        if change == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if change < 0.0 {
            enter = enter.max(room / change);
        } else {
            leave = leave.min(room / change);
        }
    }
    let at = |t: f64| {
        if t == 0.0 {
            a
        } else if t == 1.0 {
            b
        } else {
            (a.0 + t * dx, a.1 + t * dy)
        }
    };
    (enter <= leave).then(|| (at(enter), at(leave)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Twin of `clip`: a thousand samples along the segment.
        #[test]
        fn clipping_keeps_what_is_inside(a in (-2.0..3.0, -2.0..3.0), b in (-2.0..3.0, -2.0..3.0)) {
            let inside = |(x, y): (f64, f64)| (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y);
            let samples = (0..=1000).map(|k| f64::from(k) / 1000.0).map(|t| (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1)));
            let kept = samples.filter(|&sample| inside(sample)).collect::<Vec<_>>();
            let length = |p: (f64, f64), q: (f64, f64)| libm::hypot(p.0 - q.0, p.1 - q.1);
            let step = length(a, b) / 1000.0;
            match clip(a, b, [0.0, 0.0, 1.0, 1.0]) {
                None => prop_assert!(kept.len() <= 1),
                Some((start, end)) => prop_assert!((length(start, end) - step * kept.len() as f64).abs() <= 2.0 * step + 1e-9),
            }
        }
    }

    #[test]
    fn long_names_take_several_lines() {
        let name = "inferline / round_robin / least_kv";
        for style in [Style::Paper, Style::Slides] {
            draw((200, 100), style, |figure| {
                let lines = figure.wrapped(name, TEXT, 236.0, 2)?;
                assert_eq!(lines.join(" "), name, "{style:?}: broken at a space");
                assert_eq!(figure.wrapped("short", TEXT, 236.0, 2)?, ["short"]);
                assert_eq!(
                    figure.wrapped("a_long_name_without_any_space", TEXT, 150.0, 3)?.concat(),
                    "a_long_name_without_any_space"
                );
                let cut = figure.wrapped(&"endless".repeat(20), TEXT, 236.0, 3)?;
                assert!(cut.len() == 3 && cut[2].ends_with('…'), "{cut:?}");
                let size = figure.size_for(name, TEXT, 5.0, 150.0)?;
                assert!(size < TEXT && figure.text_width(name, size)? <= 151.0, "{size}");
                Ok(())
            })
            .unwrap();
        }
    }

    #[test]
    fn a_figure_becomes_svg_and_png() {
        let svg = draw((200, 100), Style::Paper, |figure| {
            figure.text("<&>", (100.0, 50.0), TEXT, INK, Anchor::Middle)
        })
        .unwrap();
        assert!(svg.contains("width=\"200\" height=\"100\"") && svg.contains("&lt;&amp;&gt;"), "{svg}");
        let png = to_png(&svg).unwrap();
        assert_eq!(&png[1..4], b"PNG");
        assert_eq!(png[16..24], [0, 0, 1, 144, 0, 0, 0, 200], "twice the size");
        let (colour_type, pixels) = decoded(&png);
        assert_eq!(colour_type, png::ColorType::Indexed);
        assert_eq!(pixels.len(), 3 * 400 * 200);
        assert_eq!(pixels[..3], [255; 3], "a corner of the sheet");
        let darkest = pixels.chunks(3).map(|pixel| pixel[0]).min();
        assert!(darkest.is_some_and(|red| red.abs_diff(INK.0) < 30), "the text is there: {darkest:?}");
    }

    /// How the colours of a PNG are told, and those of its pixels.
    fn decoded(png: &[u8]) -> (png::ColorType, Vec<u8>) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        (reader.info().color_type, pixels)
    }

    /// As many colours as a palette holds, and one more.
    #[test]
    fn all_pixels_are_in_the_file() {
        for (number, colour_type) in
            [(1, png::ColorType::Indexed), (256, png::ColorType::Indexed), (257, png::ColorType::Rgb)]
        {
            let pixel = |i: u32| [(i % number % 256) as u8, (i % number / 256) as u8, 7, 255];
            let pixels: Vec<[u8; 4]> = (0..60 * 30).map(|i| pixel(i / 2)).collect();
            let (found, colours) = decoded(&encoded(pixels.as_flattened(), 60, 30).unwrap());
            assert_eq!(found, colour_type, "{number} colours");
            let expected: Vec<[u8; 3]> =
                pixels.iter().map(|&[red, green, blue, _]| [red, green, blue]).collect();
            assert_eq!(colours, expected.as_flattened(), "{number} colours");
        }
    }

    #[test]
    fn opacity_goes_to_fill_and_stroke() {
        let svg = r##"<a>x opacity="1"</a><line opacity="1" x="2"/><line x="2" opacity="0.3"/>"##;
        let expected =
            r##"<a>x opacity="1"</a><line x="2"/><line x="2" fill-opacity="0.3" stroke-opacity="0.3"/>"##;
        assert_eq!(of_paint_alone(svg), expected);
    }
}
