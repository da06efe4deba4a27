//! For whom figures are drawn.

/// Sizes of text, lines and markers; the figure's own size stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Legible when printed at half size in a column of text.
    #[default]
    Paper,
    /// Legible from the last row: larger type, thicker lines, fewer families.
    Slides,
}

impl Style {
    pub fn text(self) -> f64 {
        if self == Self::Paper { 1.0 } else { 1.25 }
    }

    pub fn line(self) -> f64 {
        if self == Self::Paper { 1.0 } else { 1.7 }
    }

    pub fn marker(self) -> f64 {
        if self == Self::Paper { 1.0 } else { 1.35 }
    }

    /// Families with a staircase and a legend, the best by hypervolume.
    pub fn max_families(self) -> usize {
        if self == Self::Paper { 8 } else { 6 }
    }

    /// Room that larger axis labels need below a panel.
    pub fn lift(self) -> f64 {
        60.0 * (self.text() - 1.0)
    }
}
