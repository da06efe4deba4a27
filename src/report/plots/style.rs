//! For whom figures are drawn.

/// Points of a PDF are 1/72 of an inch.
pub const POINTS_PER_MM: f64 = 72.0 / 25.4;

/// Sizes of text, lines and markers, and of the figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Legible when printed at half size in a column of text.
    #[default]
    Paper,
    /// Legible from the last row: larger type, thicker lines, fewer families.
    Slides,
    /// As wide as a column of print, at its final size. Legends lie below where there is no room beside; what
    /// other figures say below their axes stands in the caption. Families are told apart without their
    /// colours.
    Column(ColumnWidth),
}

/// The width of a column of print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct ColumnWidth {
    tenths_of_mm: u32,
}

/// Points of print that a unit of a column's figure takes: its smallest text is then 5.5 points high, text of
/// axes 7.
const POINTS: f64 = 0.548;

impl ColumnWidth {
    /// Narrower ones hold no figure, wider ones no sheet of paper has.
    pub const LIMITS_MM: [f64; 2] = [60.0, 300.0];

    /// None outside the limits. A tenth of a millimetre counts.
    pub fn new(mm: f64) -> Option<Self> {
        let [least, most] = Self::LIMITS_MM;
        (least..=most).contains(&mm).then(|| Self { tenths_of_mm: (mm * 10.0).round() as u32 })
    }

    pub fn mm(self) -> f64 {
        f64::from(self.tenths_of_mm) / 10.0
    }
}

impl Style {
    pub fn text(self) -> f64 {
        if self == Self::Slides { 1.25 } else { 1.0 }
    }

    pub fn line(self) -> f64 {
        if self == Self::Slides { 1.7 } else { 1.0 }
    }

    pub fn marker(self) -> f64 {
        if self == Self::Slides { 1.35 } else { 1.0 }
    }

    /// Families with a staircase and a legend, the best by hypervolume.
    pub fn max_families(self) -> usize {
        if self == Self::Slides || !self.is_wide() { 6 } else { 8 }
    }

    /// Room that larger axis labels need below a panel.
    pub fn lift(self) -> f64 {
        60.0 * (self.text() - 1.0)
    }

    /// For print, with a caption.
    pub fn is_column(self) -> bool {
        matches!(self, Self::Column(_))
    }

    /// Width of a figure.
    pub fn width(self) -> f64 {
        match self {
            Self::Column(width) => (width.mm() * POINTS_PER_MM / POINTS).round(),
            _ => f64::from(super::SIZE.0),
        }
    }

    /// Whether there is room for a legend beside a panel.
    pub fn is_wide(self) -> bool {
        self.width() >= 700.0
    }

    /// Left end of panels and titles.
    pub fn left(self) -> f64 {
        if self.is_wide() { 84.0 } else { 78.0 }
    }

    /// Right end of panels that have no legend.
    pub fn right(self) -> f64 {
        if self.is_wide() { self.width() - 30.0 } else { self.width() - 16.0 }
    }

    /// A figure of this height with one panel that ends at `bottom`, and a legend of `entries` lines, beside
    /// it or below.
    pub fn layout(self, height: i32, bottom: f64, entries: usize) -> Layout {
        let width = self.width();
        if self.is_wide() {
            let panel = [self.left(), 40.0, width - 310.0, bottom - self.lift()];
            let height = if self.is_column() { (bottom + 50.0) as i32 } else { height };
            return Layout {
                size: (width as i32, height),
                panel,
                legend: Legend { left: width - 288.0, top: 48.0, width: 276.0, is_beside: true },
            };
        }
        let bottom = 40.0 + 0.72 * width;
        let legend = Legend { left: 16.0, top: bottom + 62.0, width: width - 32.0, is_beside: false };
        let height = legend.top + Legend::PITCH * (entries as f64 + 1.0);
        Layout {
            size: (width as i32, height as i32),
            panel: [self.left(), 40.0, self.right(), bottom],
            legend,
        }
    }
}

/// Where a panel and its legend lie.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub size: (i32, i32),
    pub panel: [f64; 4],
    pub legend: Legend,
}

#[derive(Debug, Clone, Copy)]
pub struct Legend {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub is_beside: bool,
}

impl Legend {
    /// Height of a line of a legend below.
    pub const PITCH: f64 = 21.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_columns_are_as_wide_as_other_figures() {
        let column = |mm: f64| Style::Column(ColumnWidth::new(mm).unwrap());
        assert_eq!((column(174.0).width(), column(84.0).width()), (900.0, 435.0));
        assert!(column(174.0).is_wide() && !column(84.0).is_wide());
        assert_eq!(ColumnWidth::new(88.9).unwrap().mm(), 88.9);
        assert!([59.0, 301.0, f64::NAN].into_iter().all(|mm| ColumnWidth::new(mm).is_none()));
        // Others stay where they were.
        let layout = Style::Slides.layout(500, 410.0, 3);
        assert_eq!(
            (layout.size, layout.panel, layout.legend.left),
            ((900, 500), [84.0, 40.0, 590.0, 395.0], 612.0)
        );
    }
}
