//! SGLang's radix tree: which token sequences a replica has in its KV cache, who holds on to them, what is
//! evicted next.
//!
//! A node is a run of tokens of any length; pages longer than a token make lengths multiples of them. Whoever
//! needs a sequence locks the node it ends in, and with it everything up to the root. Eviction takes unlocked
//! leaves whole, the longest unused first, and then, it may be, their parents.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Page, Reader, Span};

/// A node; only the tree gives a number a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(u32);

pub const ROOT: NodeId = NodeId(0);

#[derive(Debug)]
struct Node {
    key: Vec<Span>,
    tokens: u32,
    parent: NodeId,
    children: BTreeMap<Page, NodeId>,
    /// Requests that hold on to it, or to something below it.
    locks: u32,
    accessed: u64,
}

#[derive(Debug)]
pub struct RadixTree {
    page_tokens: u32,
    nodes: Vec<Node>,
    unused: Vec<NodeId>,
    /// Unlocked leaves by when they were last accessed.
    evictable_leaves: BTreeSet<(u64, NodeId)>,
    evictable_tokens: u32,
    accesses: u64,
}

/// Moments within one access: a path is accessed from its end up, each node a little earlier than the one
/// below.
const MOMENTS: u64 = 1 << 20;

impl RadixTree {
    pub fn new(page_tokens: u32) -> Self {
        let root = Node {
            key: Vec::new(),
            tokens: 0,
            parent: ROOT,
            children: BTreeMap::new(),
            locks: 0,
            accessed: 0,
        };
        Self {
            page_tokens,
            nodes: vec![root],
            unused: Vec::new(),
            evictable_leaves: BTreeSet::new(),
            evictable_tokens: 0,
            accesses: 0,
        }
    }

    /// Tokens nobody holds on to.
    pub fn evictable_tokens(&self) -> u32 {
        self.evictable_tokens
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    fn now(&mut self) -> u64 {
        self.accesses += 1;
        self.accesses * MOMENTS
    }

    fn is_evictable_leaf(&self, id: NodeId) -> bool {
        let node = self.node(id);
        id != ROOT && node.locks == 0 && node.children.is_empty()
    }

    /// Changes a node so that it is found among the evictable leaves exactly if it is one.
    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        if self.is_evictable_leaf(id) {
            self.evictable_leaves.remove(&(self.node(id).accessed, id));
        }
        change(self.node_mut(id));
        if self.is_evictable_leaf(id) {
            self.evictable_leaves.insert((self.node(id).accessed, id));
        }
    }

    fn access(&mut self, id: NodeId, at: u64) {
        self.change(id, |node| node.accessed = at);
    }

    fn add(&mut self, node: Node) -> NodeId {
        match self.unused.pop() {
            Some(id) => {
                *self.node_mut(id) = node;
                id
            }
            None => {
                self.nodes.push(node);
                NodeId(self.nodes.len() as u32 - 1)
            }
        }
    }

    fn page_of(&self, key: &[Span], tokens: u32) -> Page {
        Reader::new(key, tokens).page(self.page_tokens).expect("a node has at least a page")
    }

    /// Whole pages that a node and what is read have in common.
    fn common(&self, id: NodeId, reader: Reader) -> u32 {
        let node = self.node(id);
        let common = Reader::new(&node.key, node.tokens).common(reader);
        common - common % self.page_tokens
    }

    /// Cuts a node behind its first `tokens`; returns the new node of these. The one cut keeps its number,
    /// and counts as accessed.
    fn split(&mut self, id: NodeId, tokens: u32) -> NodeId {
        let at = self.now();
        let node = self.node(id);
        let whole = Reader::new(&node.key, node.tokens);
        let (upper, mut lower) = (whole.take(tokens), whole);
        lower.skip(tokens);
        let (lower, lower_tokens) = (lower.take(node.tokens - tokens), node.tokens - tokens);
        let (parent, locks) = (node.parent, node.locks);
        let (page, lower_page) = (self.page_of(&upper, tokens), self.page_of(&lower, lower_tokens));
        let children = BTreeMap::from([(lower_page, id)]);
        let new = self.add(Node { key: upper, tokens, parent, children, locks, accessed: at });
        self.node_mut(parent).children.insert(page, new);
        let at = self.now();
        self.change(id, |node| {
            (node.key, node.tokens, node.parent, node.accessed) = (lower, lower_tokens, new, at);
        });
        new
    }

    /// How many tokens of a sequence are there, in whole pages, and the node they end in. They count as
    /// accessed.
    pub fn look_up(&mut self, mut reader: Reader) -> (u32, NodeId) {
        let (mut id, mut found) = (ROOT, 0);
        while let Some(child) =
            reader.page(self.page_tokens).and_then(|page| self.node(id).children.get(&page).copied())
        {
            let common = self.common(child, reader);
            found += common;
            reader.skip(common);
            if common < self.node(child).tokens {
                id = self.split(child, common);
                break;
            }
            id = child;
        }
        let at = self.now();
        let (mut up, mut moments) = (id, 0);
        while up != ROOT {
            self.access(up, at - moments);
            moments += 1;
            up = self.node(up).parent;
        }
        (found, id)
    }

    /// Makes the whole pages of a sequence known. Returns how many of the tokens were there before, and the
    /// node it ends in.
    pub fn insert(&mut self, mut reader: Reader) -> (u32, NodeId) {
        let (mut id, mut found) = (ROOT, 0);
        while let Some(child) =
            reader.page(self.page_tokens).and_then(|page| self.node(id).children.get(&page).copied())
        {
            let at = self.now();
            self.access(child, at);
            let common = self.common(child, reader);
            found += common;
            reader.skip(common);
            id = if common < self.node(child).tokens { self.split(child, common) } else { child };
        }
        let tokens = reader.left() - reader.left() % self.page_tokens;
        if tokens > 0 {
            let key = reader.take(tokens);
            let (page, accessed) = (self.page_of(&key, tokens), self.now());
            let new =
                self.add(Node { key, tokens, parent: id, children: BTreeMap::new(), locks: 0, accessed });
            self.change(id, |node| {
                node.children.insert(page, new);
            });
            self.evictable_leaves.insert((accessed, new));
            self.evictable_tokens += tokens;
            id = new;
        }
        (found, id)
    }

    /// Keeps a node and all above it from eviction.
    pub fn lock(&mut self, mut id: NodeId) {
        while id != ROOT {
            if self.node(id).locks == 0 {
                self.evictable_tokens -= self.node(id).tokens;
            }
            self.change(id, |node| node.locks += 1);
            id = self.node(id).parent;
        }
    }

    pub fn unlock(&mut self, mut id: NodeId) {
        while id != ROOT {
            self.change(id, |node| node.locks -= 1);
            if self.node(id).locks == 0 {
                self.evictable_tokens += self.node(id).tokens;
            }
            id = self.node(id).parent;
        }
    }

    /// Evicts leaves until at least `tokens` are free of it, or none is left. Returns how many are.
    pub fn evict(&mut self, tokens: u32) -> u32 {
        let mut evicted = 0;
        while evicted < tokens
            && let Some((_, id)) = self.evictable_leaves.pop_first()
        {
            let Node { key, tokens, parent, .. } = self.node_mut(id);
            let (key, tokens, parent) = (std::mem::take(key), *tokens, *parent);
            let page = self.page_of(&key, tokens);
            self.change(parent, |node| {
                node.children.remove(&page);
            });
            self.unused.push(id);
            evicted += tokens;
        }
        self.evictable_tokens -= evicted;
        evicted
    }
}

#[cfg(test)]
impl RadixTree {
    /// Tokens of all nodes, after a look at whether everything that is kept of them agrees.
    pub fn checked_tokens(&self) -> u32 {
        let live = (0..self.nodes.len() as u32).map(NodeId).filter(|id| !self.unused.contains(id));
        let (mut all, mut evictable, mut leaves) = (0, 0, BTreeSet::new());
        for id in live {
            let node = self.node(id);
            assert!(
                node.tokens.is_multiple_of(self.page_tokens) && (id == ROOT || node.tokens > 0),
                "{node:?}"
            );
            assert_eq!(node.tokens, node.key.iter().map(|span| span.tokens).sum::<u32>());
            for (page, &child) in &node.children {
                let below = self.node(child);
                assert_eq!((below.parent, &self.page_of(&below.key, below.tokens)), (id, page));
                assert!(id == ROOT || node.locks >= below.locks, "what is above a locked node is locked");
            }
            all += node.tokens;
            evictable += if node.locks == 0 { node.tokens } else { 0 };
            if self.is_evictable_leaf(id) {
                leaves.insert((node.accessed, id));
            }
        }
        assert_eq!((self.evictable_tokens, &self.evictable_leaves), (evictable, &leaves));
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Token = (u64, u32);

    /// The same tree by the token, with nothing kept that can be looked for.
    struct Twin {
        page_tokens: usize,
        nodes: Vec<Option<TwinNode>>,
        accesses: f64,
    }

    struct TwinNode {
        key: Vec<Token>,
        parent: usize,
        locks: u32,
        accessed: f64,
    }

    impl Twin {
        fn new(page_tokens: usize) -> Self {
            let root = TwinNode { key: Vec::new(), parent: 0, locks: 0, accessed: 0.0 };
            Self { page_tokens, nodes: vec![Some(root)], accesses: 0.0 }
        }

        fn node(&mut self, id: usize) -> &mut TwinNode {
            self.nodes[id].as_mut().unwrap()
        }

        fn now(&mut self) -> f64 {
            self.accesses += 1.0;
            self.accesses
        }

        fn children(&self, id: usize) -> Vec<usize> {
            (1..self.nodes.len())
                .filter(|&child| self.nodes[child].as_ref().is_some_and(|node| node.parent == id))
                .collect()
        }

        fn child(&self, id: usize, tokens: &[Token]) -> Option<usize> {
            let page = tokens.get(..self.page_tokens)?;
            self.children(id)
                .into_iter()
                .find(|&child| self.nodes[child].as_ref().unwrap().key.starts_with(page))
        }

        /// Goes down along the tokens, cutting where they part.
        fn walk(&mut self, tokens: &[Token], access: bool) -> (usize, usize) {
            let (mut id, mut found) = (0, 0);
            while let Some(child) = self.child(id, &tokens[found..]) {
                if access {
                    let now = self.now();
                    self.node(child).accessed = now;
                }
                let key = self.node(child).key.clone();
                let common = key.iter().zip(&tokens[found..]).take_while(|(one, other)| one == other).count();
                let common = common - common % self.page_tokens;
                found += common;
                if common == key.len() {
                    id = child;
                    continue;
                }
                let (upper, lower) = key.split_at(common);
                let (accessed, locks) = (self.now(), self.node(child).locks);
                self.nodes.push(Some(TwinNode { key: upper.to_vec(), parent: id, locks, accessed }));
                id = self.nodes.len() - 1;
                let now = self.now();
                let node = self.node(child);
                (node.key, node.parent, node.accessed) = (lower.to_vec(), id, now);
                break;
            }
            (found, id)
        }

        fn look_up(&mut self, tokens: &[Token]) -> (usize, usize) {
            let (found, id) = self.walk(tokens, false);
            let (mut now, mut up) = (self.now(), id);
            while up != 0 {
                self.node(up).accessed = now;
                now -= 1e-3;
                up = self.node(up).parent;
            }
            (found, id)
        }

        fn insert(&mut self, tokens: &[Token]) -> (usize, usize) {
            let tokens = &tokens[..tokens.len() - tokens.len() % self.page_tokens];
            let (found, mut id) = self.walk(tokens, true);
            if found < tokens.len() {
                let accessed = self.now();
                self.nodes.push(Some(TwinNode {
                    key: tokens[found..].to_vec(),
                    parent: id,
                    locks: 0,
                    accessed,
                }));
                id = self.nodes.len() - 1;
            }
            (found, id)
        }

        fn lock(&mut self, mut id: usize, by: i64) {
            while id != 0 {
                let node = self.node(id);
                node.locks = (i64::from(node.locks) + by) as u32;
                id = node.parent;
            }
        }

        fn evictable(&self) -> usize {
            self.nodes[1..].iter().flatten().filter(|node| node.locks == 0).map(|node| node.key.len()).sum()
        }

        fn evict(&mut self, tokens: usize) -> usize {
            let mut evicted = 0;
            while evicted < tokens {
                let free = |&id: &usize| {
                    self.nodes[id].as_ref().is_some_and(|node| node.locks == 0)
                        && self.children(id).is_empty()
                };
                let accessed = |id: usize| self.nodes[id].as_ref().unwrap().accessed;
                let leaves = (1..self.nodes.len()).filter(free);
                let Some(oldest) = leaves.min_by(|&one, &other| accessed(one).total_cmp(&accessed(other)))
                else {
                    break;
                };
                evicted += self.node(oldest).key.len();
                self.nodes[oldest] = None;
            }
            evicted
        }
    }

    proptest! {
        #[test]
        fn is_a_tree_of_tokens(
            page_tokens in prop::sample::select(vec![1_u32, 4]),
            actions in prop::collection::vec((0..5_u32, prop::collection::vec((0..3_u64, 1..9_u32), 1..5), 1..20_u32), 1..60),
        ) {
            let (mut tree, mut twin, mut locked) = (RadixTree::new(page_tokens), Twin::new(page_tokens as usize), Vec::new());
            for (action, pieces, number) in actions {
                let spans: Vec<Span> = pieces.iter().map(|&(source, tokens)| Span { source, from: 0, tokens }).collect();
                let tokens: Vec<Token> = pieces.iter().flat_map(|&(source, tokens)| (0..tokens).map(move |place| (source, place))).collect();
                let reader = Reader::new(&spans, tokens.len() as u32);
                match action {
                    0..3 => {
                        let ((found, id), (twin_found, twin_id)) = match action {
                            0 => (tree.look_up(reader), twin.look_up(&tokens)),
                            _ => (tree.insert(reader), twin.insert(&tokens)),
                        };
                        prop_assert_eq!(found as usize, twin_found);
                        if number > 12 {
                            tree.lock(id);
                            twin.lock(twin_id, 1);
                            locked.push((id, twin_id));
                        }
                    }
                    3 if !locked.is_empty() => {
                        let (id, twin_id) = locked.swap_remove(number as usize % locked.len());
                        tree.unlock(id);
                        twin.lock(twin_id, -1);
                    }
                    _ => prop_assert_eq!(tree.evict(number) as usize, twin.evict(number as usize)),
                }
                prop_assert_eq!(tree.evictable_tokens() as usize, twin.evictable());
                tree.checked_tokens();
            }
        }
    }
}
