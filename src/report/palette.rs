//! One colour and one marker per policy family, everywhere.
//!
//! The colours are Okabe and Ito's (<https://jfly.uni-koeln.de/color/>), told apart by people with any common colour vision, without
//! black and yellow, which vanish on a dark or a white page. Markers differ too: colour never carries a meaning alone.

/// Colours as red, green, blue.
const COLOURS: [(u8, u8, u8); 7] = [
    (0, 114, 178),   // blue
    (213, 94, 0),    // vermilion
    (0, 158, 115),   // bluish green
    (204, 121, 167), // reddish purple
    (230, 159, 0),   // orange
    (86, 180, 233),  // sky blue
    (128, 128, 128), // grey
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    TriangleDown,
    Cross,
    Plus,
    Pentagon,
}

const MARKERS: [(Marker, &str); 8] = [
    (Marker::Circle, "circle"),
    (Marker::Square, "square"),
    (Marker::Triangle, "triangle"),
    (Marker::Diamond, "diamond"),
    (Marker::TriangleDown, "triangle-down"),
    (Marker::Cross, "cross"),
    (Marker::Plus, "plus"),
    (Marker::Pentagon, "pentagon"),
];

/// How a family looks. Seven colours and eight markers give 56 families a look of their own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    pub colour: (u8, u8, u8),
    pub marker: Marker,
    pub marker_name: &'static str,
}

/// The look of family number `family`, in alphabetical order of the families.
pub fn look(family: usize) -> Look {
    let (marker, marker_name) = MARKERS[family % MARKERS.len()];
    Look { colour: COLOURS[family % COLOURS.len()], marker, marker_name }
}

impl Look {
    /// `#rrggbb`.
    pub fn hex(self) -> String {
        let (r, g, b) = self.colour;
        format!("#{r:02x}{g:02x}{b:02x}")
    }
}

impl Marker {
    /// Corners on a circle of radius 1, y downwards; empty for markers that are no polygon.
    pub fn corners(self) -> Vec<(f64, f64)> {
        let regular = |n: u32, start_degrees: f64| {
            (0..n).map(|k| (start_degrees + 360.0 / f64::from(n) * f64::from(k)).to_radians()).map(|a| (a.cos(), a.sin())).collect()
        };
        match self {
            Self::Square => regular(4, 45.0),
            Self::Triangle => regular(3, -90.0),
            Self::Diamond => regular(4, 0.0),
            Self::TriangleDown => regular(3, 90.0),
            Self::Pentagon => regular(5, -90.0),
            Self::Circle | Self::Cross | Self::Plus => Vec::new(),
        }
    }

    /// Strokes on a circle of radius 1, for markers made of two lines.
    pub fn strokes(self) -> Vec<[(f64, f64); 2]> {
        match self {
            Self::Cross => vec![[(-0.8, -0.8), (0.8, 0.8)], [(-0.8, 0.8), (0.8, -0.8)]],
            Self::Plus => vec![[(-1.0, 0.0), (1.0, 0.0)], [(0.0, -1.0), (0.0, 1.0)]],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_six_families_differ() {
        let looks = (0..56).map(|family| (look(family).hex(), look(family).marker_name)).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(looks.len(), 56);
    }
}
