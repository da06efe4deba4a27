//! What a trace tells of its requests beside arrivals and lengths: how much each may generate, and how urgent
//! it is.

/// A column each, where any request has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// The most tokens each request may generate, at least what it does; just that of one of which nothing is
    /// told.
    pub max_new_tokens: Option<Vec<u32>>,
    /// The higher, the sooner a request is served; 0 of one of which nothing is told.
    pub priorities: Option<Vec<i32>>,
}

impl Told {
    /// Takes down what is told of the latest request of `decode_tokens`, all of them.
    pub(super) fn push(&mut self, decode_tokens: &[u32], max_new_tokens: Option<u32>, priority: Option<i32>) {
        let Some((&latest, before)) = decode_tokens.split_last() else { return };
        if self.max_new_tokens.is_some() || max_new_tokens.is_some() {
            let column = self.max_new_tokens.get_or_insert_with(|| before.to_vec());
            column.push(max_new_tokens.unwrap_or(latest).max(latest));
        }
        if self.priorities.is_some() || priority.is_some() {
            self.priorities.get_or_insert_with(|| vec![0; before.len()]).push(priority.unwrap_or(0));
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.max_new_tokens.iter_mut().for_each(|column| column.truncate(len));
        self.priorities.iter_mut().for_each(|column| column.truncate(len));
    }

    pub(super) fn skip(&mut self, requests: usize) {
        self.max_new_tokens.iter_mut().for_each(|column| drop(column.drain(..requests)));
        self.priorities.iter_mut().for_each(|column| drop(column.drain(..requests)));
    }

    pub(super) fn reordered(&self, order: &[u32]) -> Self {
        fn reordered<T: Copy>(column: &[T], order: &[u32]) -> Vec<T> {
            order.iter().map(|&place| column[place as usize]).collect()
        }
        Self {
            max_new_tokens: self.max_new_tokens.as_ref().map(|column| reordered(column, order)),
            priorities: self.priorities.as_ref().map(|column| reordered(column, order)),
        }
    }

    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        if let Some(column) = &self.max_new_tokens {
            hasher.update(b"max_new_tokens");
            for tokens in column {
                hasher.update(&tokens.to_le_bytes());
            }
        }
        if let Some(column) = &self.priorities {
            hasher.update(b"priority");
            for priority in column {
                hasher.update(&priority.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_begin_where_something_is_told() {
        let mut told = Told::default();
        let decode_tokens = [5, 6, 7, 8];
        for (len, (most, priority)) in
            (1..).zip([(None, None), (Some(20), None), (Some(3), Some(-2)), (None, None)])
        {
            told.push(&decode_tokens[..len], most, priority);
        }
        assert_eq!(
            told,
            Told { max_new_tokens: Some(vec![5, 20, 7, 8]), priorities: Some(vec![0, 0, -2, 0]) }
        );
        let mut turned = told.reordered(&[3, 2, 1, 0]);
        turned.skip(1);
        turned.truncate(2);
        assert_eq!(turned, Told { max_new_tokens: Some(vec![7, 20]), priorities: Some(vec![-2, 0]) });
    }
}
