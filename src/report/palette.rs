//! One colour and one marker per policy family, everywhere.
//!
//! The colours are Okabe and Ito's (<https://jfly.uni-koeln.de/color/>), told apart by people with any common
//! colour vision, without black and yellow, which vanish on a dark or a white page. Markers differ too:
//! colour never carries a meaning alone.

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

/// Dashes of lines, in order of the groups within policies; none is solid.
pub const DASHES: [Option<(f64, f64)>; 4] = [None, Some((7.0, 3.5)), Some((2.0, 2.5)), Some((10.0, 4.0))];

/// How a family looks. Seven colours and eight markers give 56 families a look of their own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    pub colour: (u8, u8, u8),
    /// Length of dashes and of gaps; None is solid.
    pub dash: Option<(f64, f64)>,
    pub marker: Marker,
    pub marker_name: &'static str,
}

/// The look of family number `family`, in alphabetical order of the families.
pub fn look(family: usize) -> Look {
    let (marker, marker_name) = MARKERS[family % MARKERS.len()];
    Look { colour: COLOURS[family % COLOURS.len()], dash: None, marker, marker_name }
}

/// The looks of families, each a policy and what tells families of a policy apart, such as the router: the
/// policy is the colour, the rest marker and dash. Where there is nothing else, every policy has a marker of
/// its own.
pub fn looks(families: &[(String, Vec<String>)]) -> Vec<Look> {
    let place = |all: &std::collections::BTreeSet<_>, one| {
        all.iter().position(|other| *other == one).unwrap_or_default()
    };
    let policies =
        families.iter().map(|(policy, _)| policy.clone()).collect::<std::collections::BTreeSet<_>>();
    let groups =
        families.iter().map(|(_, groups)| groups.join("/")).collect::<std::collections::BTreeSet<_>>();
    let of = |(policy, group): &(String, Vec<String>)| {
        let (policy, group) = (place(&policies, policy.clone()), place(&groups, group.join("/")));
        if groups.len() < 2 {
            return look(policy);
        }
        // Once colours begin anew, so do not the markers.
        let (marker, marker_name) =
            MARKERS[(group + groups.len() * (policy / COLOURS.len())) % MARKERS.len()];
        Look {
            colour: COLOURS[policy % COLOURS.len()],
            dash: DASHES[group % DASHES.len()],
            marker,
            marker_name,
        }
    };
    families.iter().map(of).collect()
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
            (0..n)
                .map(|k| (start_degrees + 360.0 / f64::from(n) * f64::from(k)).to_radians())
                .map(|a| (libm::cos(a), libm::sin(a)))
                .collect()
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
    fn the_policy_is_the_colour_and_the_router_marker_and_dash() {
        let family = |policy: &str, router: &str| (policy.to_owned(), vec![router.to_owned()]);
        let found =
            looks(&[family("hpa", "rr"), family("hpa", "lor"), family("keda", "rr"), family("keda", "lor")]);
        assert!(
            found[0].colour == found[1].colour
                && found[2].colour == found[3].colour
                && found[0].colour != found[2].colour
        );
        assert!(
            found[0].marker == found[2].marker
                && found[1].marker == found[3].marker
                && found[0].marker != found[1].marker
        );
        assert!(found[0].dash == found[2].dash && found[0].dash != found[1].dash);
        // Without routers to tell apart, colour alone carries no meaning.
        let alone = looks(&[family("hpa", ""), family("keda", "")]);
        assert!(alone[0].marker != alone[1].marker && alone.iter().all(|look| look.dash.is_none()));
        let many: Vec<_> =
            (0..20).flat_map(|k| ["a", "b"].map(|router| family(&format!("{k:02}"), router))).collect();
        let different = looks(&many)
            .iter()
            .map(|look| (look.hex(), look.marker_name))
            .collect::<std::collections::BTreeSet<_>>();
        assert_eq!(different.len(), many.len());
    }

    #[test]
    fn fifty_six_families_differ() {
        let looks = (0..56)
            .map(|family| (look(family).hex(), look(family).marker_name))
            .collect::<std::collections::BTreeSet<_>>();
        assert_eq!(looks.len(), 56);
    }
}
