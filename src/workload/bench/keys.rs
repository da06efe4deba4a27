//! The keys a JSON file begins with, found without reading all of it.

/// How much of a file is looked at: a prompt before the telling key may be long.
pub const HEAD_BYTES: usize = 4 << 20;

/// Names of the outermost object's members (of the first of a list's), and of the objects directly within, as
/// `outer/inner`; for a file that is no JSON, its first line.
#[derive(Debug, Default)]
pub struct Keys {
    pub names: Vec<String>,
    /// Whether the file is a list.
    pub is_list: bool,
    pub first_line: String,
}

impl Keys {
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|found| found == name)
    }

    pub fn has_all(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.has(name))
    }

    /// The keys of a file that begins with `head`, which may end anywhere.
    pub fn of(head: &str) -> Self {
        let first_line = head.lines().next().unwrap_or_default().chars().take(200).collect();
        let mut keys = Self { is_list: head.trim_start().starts_with('['), first_line, ..Self::default() };
        if !head.trim_start().starts_with(['{', '[']) {
            return keys;
        }
        // Lists and objects around the place reached; an object with the name of its member at hand.
        let mut around: Vec<Around> = Vec::new();
        let (mut last_string, mut chars) = ("", head.char_indices());
        while let Some((start, c)) = chars.next() {
            match c {
                '"' => match end_of_string(&mut chars) {
                    Some(end) => last_string = &head[start + 1..end],
                    None => break,
                },
                '{' => around.push(Around::Object("")),
                '[' => around.push(Around::List),
                ':' => {
                    if let Some(Around::Object(name)) = around.last_mut() {
                        *name = last_string;
                    }
                    // Of a list the first element counts as if it were the whole file.
                    let names = around.iter().skip(usize::from(keys.is_list)).map(|around| match around {
                        Around::Object(name) => Some(*name),
                        Around::List => None,
                    });
                    match names.collect::<Option<Vec<_>>>() {
                        Some(names) if names.len() <= 2 => keys.names.push(names.join("/")),
                        _ => {}
                    }
                }
                '}' | ']' => {
                    around.pop();
                    if around.is_empty() {
                        break;
                    }
                }
                ',' if keys.is_list && around.len() == 1 => break,
                _ => {}
            }
        }
        keys
    }
}

enum Around<'h> {
    List,
    Object(&'h str),
}

/// The place of the quote that ends a string, whose first quote has been passed.
fn end_of_string(chars: &mut std::str::CharIndices) -> Option<usize> {
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_two_levels() {
        let keys = Keys::of(
            r#"{"a": {"b": 1, "c": {"d": 2}}, "e": [{"f": 3}], "g": {}, "h\"": "i: {", "j": {"k": tr"#,
        );
        assert_eq!(keys.names, ["a", "a/b", "a/c", "e", "g", "h\\\"", "j", "j/k"]);
        let keys = Keys::of("\n [{\"a\": {\"b\": []}, \"c\": 1}, {\"d\": 2}]");
        assert_eq!((keys.is_list, keys.names), (true, vec!["a".to_owned(), "a/b".into(), "c".into()]));
        assert_eq!(Keys::of("{\"a\": 1}\n{\"b\": 2}").names, ["a"]);
        let csv = Keys::of("Metric,avg,min\n1,2,3");
        assert_eq!((csv.names.len(), csv.first_line.as_str()), (0, "Metric,avg,min"));
        assert!(Keys::of("").names.is_empty() && Keys::of("{\"a").names.is_empty());
    }
}
