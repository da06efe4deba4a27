//! Token sequences by where their tokens come from: comparing two prompts of a hundred thousand tokens is a
//! handful of comparisons.

use crate::replica_scheduler::Request;
use crate::workload::Prompt;

/// Consecutive tokens of one source. Tokens are equal exactly if source and place in it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub source: u64,
    pub from: u32,
    pub tokens: u32,
}

/// Sources beyond the workload's runs of prompt blocks: what is known of one request only.
const PROMPT: u64 = 1 << 32;
const OUTPUT: u64 = 2 << 32;

/// The tokens of a request: its prompt and, behind it, what it generates.
///
/// Runs of hash blocks name the prompt as far as they go; the rest of it is like no other. Ids of more blocks
/// than the prompt has name what is generated as well, so that a later turn finds it; otherwise only the
/// request itself can.
pub fn tokens_of(request: &Request, prompt: Option<Prompt>) -> Vec<Span> {
    let (id, prompt_tokens) = (u64::from(request.id), request.original_prefill_tokens);
    let all_tokens = request.total_tokens();
    let mut spans = Vec::new();
    let mut named = 0;
    if let Some(Prompt { runs, block_tokens }) = prompt {
        let blocks = runs.last().map_or(0, |run| run.end);
        let most = if blocks > prompt_tokens.div_ceil(block_tokens) { all_tokens } else { prompt_tokens };
        for run in runs {
            let end = run.end.saturating_mul(block_tokens).min(most);
            push(&mut spans, Span { source: run.id.into(), from: 0, tokens: end - named });
            named = end;
        }
    }
    let own_prompt = prompt_tokens.saturating_sub(named);
    push(&mut spans, Span { source: PROMPT | id, from: 0, tokens: own_prompt });
    named += own_prompt;
    // One more than is ever cached: a step that overlaps the end computes what follows the last token.
    push(
        &mut spans,
        Span { source: OUTPUT | id, from: named - prompt_tokens, tokens: all_tokens + 1 - named },
    );
    spans
}

fn push(spans: &mut Vec<Span>, span: Span) {
    if span.tokens > 0 {
        spans.push(span);
    }
}

/// The beginning of a sequence that is still to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    spans: &'a [Span],
    /// Tokens of the first span that are behind.
    offset: u32,
    left: u32,
}

impl<'a> Reader<'a> {
    /// The first `tokens` of a sequence, which must have as many.
    pub fn new(spans: &'a [Span], tokens: u32) -> Self {
        Self { spans, offset: 0, left: tokens }
    }

    pub fn left(&self) -> u32 {
        self.left
    }

    /// What is next, up to the end of its span.
    fn piece(&self) -> Option<Span> {
        let span = self.spans.first().filter(|_| self.left > 0)?;
        Some(Span {
            from: span.from + self.offset,
            tokens: (span.tokens - self.offset).min(self.left),
            ..*span
        })
    }

    pub fn skip(&mut self, mut tokens: u32) {
        while let Some(piece) = self.piece().filter(|_| tokens > 0) {
            let step = piece.tokens.min(tokens);
            tokens -= step;
            self.left -= step;
            self.offset += step;
            if self.offset == self.spans[0].tokens {
                self.spans = &self.spans[1..];
                self.offset = 0;
            }
        }
    }

    /// The next `tokens`, all of which must be left, as spans.
    pub fn take(mut self, tokens: u32) -> Vec<Span> {
        self.left = tokens;
        let mut taken = Vec::new();
        while let Some(piece) = self.piece() {
            taken.push(piece);
            self.skip(piece.tokens);
        }
        taken
    }

    /// How many tokens both begin with.
    pub fn common(mut self, mut other: Self) -> u32 {
        let mut common = 0;
        while let (Some(one), Some(two)) = (self.piece(), other.piece()) {
            if (one.source, one.from) != (two.source, two.from) {
                break;
            }
            let step = one.tokens.min(two.tokens);
            common += step;
            self.skip(step);
            other.skip(step);
        }
        common
    }

    /// The tokens of the next page, by which a branch of the tree is found; `None` if fewer are left.
    pub fn page(mut self, page_tokens: u32) -> Option<Page> {
        if self.left < page_tokens {
            return None;
        }
        self.left = page_tokens;
        let first = self.piece()?;
        self.skip(first.tokens);
        Some(Page { first, rest: self.take(page_tokens - first.tokens) })
    }
}

/// A page of tokens. Most lie in one span, which then needs no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Page {
    first: Span,
    rest: Vec<Span>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::PrefixBlocks;

    fn span(source: u64, from: u32, tokens: u32) -> Span {
        Span { source, from, tokens }
    }

    #[test]
    fn what_ids_do_not_name_is_like_nothing_else() {
        let mut prefix = PrefixBlocks::new(10);
        prefix.push(&[7, 8], 15);
        prefix.push(&[7], 25);
        let runs = prefix.runs();
        let (one, two) = (Request::new(0, 0.0, 15, 4), Request::new(1, 0.0, 25, 1));
        assert_eq!(tokens_of(&one, Some(runs.of(0))), [span(0, 0, 10), span(1, 0, 5), span(OUTPUT, 0, 5)]);
        assert_eq!(
            tokens_of(&two, Some(runs.of(1))),
            [span(0, 0, 10), span(PROMPT | 1, 0, 15), span(OUTPUT | 1, 0, 2)]
        );
        assert_eq!(tokens_of(&one, None), [span(PROMPT, 0, 15), span(OUTPUT, 0, 5)]);
    }

    #[test]
    fn ids_beyond_the_prompt_name_what_is_generated() {
        let mut prefix = PrefixBlocks::new(10);
        // A turn of 15 tokens that generates 8, and the next, which repeats both.
        prefix.push(&[1, 2, 3], 23);
        prefix.push(&[1, 2, 4], 30);
        let one = tokens_of(&Request::new(0, 0.0, 15, 8), Some(prefix.runs().of(0)));
        assert_eq!(one.iter().map(|span| span.tokens).sum::<u32>(), 24);
        let two = tokens_of(&Request::new(1, 0.0, 30, 1), Some(prefix.runs().of(1)));
        assert_eq!(Reader::new(&one, 24).common(Reader::new(&two, 30)), 20);
    }

    #[test]
    fn readers_compare_and_cut() {
        let one = [span(1, 0, 4), span(2, 0, 6)];
        let two = [span(1, 0, 3), span(1, 3, 1), span(2, 0, 2), span(3, 0, 4)];
        assert_eq!(Reader::new(&one, 10).common(Reader::new(&two, 10)), 6);
        assert_eq!(Reader::new(&one, 5).common(Reader::new(&two, 10)), 5);
        let mut reader = Reader::new(&one, 10);
        reader.skip(3);
        assert_eq!((reader.left(), reader.take(3)), (7, vec![span(1, 3, 1), span(2, 0, 2)]));
        assert_eq!(reader.page(8), None);
        assert_eq!(reader.page(2), Some(Page { first: span(1, 3, 1), rest: vec![span(2, 0, 1)] }));
    }
}
