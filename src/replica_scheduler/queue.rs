//! The requests that wait for a replica's memory.

use super::Slot;

/// A queue of slots. Who leaves stays in place until room is needed, so that the front needs no wrapping:
/// every request passes here.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    slots: Vec<Slot>,
    /// Slots at the beginning that have left.
    left: usize,
}

impl Queue {
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len() - self.left
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn front(&self) -> Option<&Slot> {
        self.slots.get(self.left)
    }

    #[inline]
    pub fn push_back(&mut self, slot: Slot) {
        if self.slots.len() == self.slots.capacity() {
            self.make_room();
        }
        self.slots.push(slot);
    }

    #[inline]
    pub fn pop_front(&mut self) -> Option<Slot> {
        let slot = self.front().copied()?;
        self.left += 1;
        if self.left == self.slots.len() {
            self.clear();
        }
        Some(slot)
    }

    pub fn push_front(&mut self, slot: Slot) {
        if self.left == 0 {
            // Room for as many again, so that a row of these costs no more than a row at the back.
            let room = self.slots.len().max(8);
            self.slots.splice(0..0, std::iter::repeat_n(slot, room));
            self.left = room;
        }
        self.left -= 1;
        self.slots[self.left] = slot;
    }

    /// The requests that wait, to be put in another order.
    pub fn as_mut_slice(&mut self) -> &mut [Slot] {
        &mut self.slots[self.left..]
    }

    /// Puts a request behind the first `place` that wait.
    pub fn insert(&mut self, place: usize, slot: Slot) {
        self.slots.insert(self.left + place, slot);
    }

    /// Takes away the request behind the first `place` that wait.
    pub fn remove(&mut self, place: usize) -> Slot {
        let slot = self.slots.remove(self.left + place);
        if self.left == self.slots.len() {
            self.clear();
        }
        slot
    }

    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots[self.left..].iter()
    }

    pub fn clear(&mut self) {
        self.slots.clear();
        self.left = 0;
    }

    /// Lets go of those that have left, if they are as many as those that wait.
    #[cold]
    fn make_room(&mut self) {
        if self.left >= self.len() {
            self.slots.drain(..self.left);
            self.left = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_double_ended_queue(actions in prop::collection::vec(0_u32..7, 1..600)) {
            let (mut queue, mut twin) = (Queue::default(), VecDeque::new());
            for (action, slot) in actions.into_iter().zip((0..).map(Slot)) {
                match action {
                    0..3 => {
                        queue.push_back(slot);
                        twin.push_back(slot);
                    }
                    3 => {
                        queue.push_front(slot);
                        twin.push_front(slot);
                    }
                    _ => prop_assert_eq!(queue.pop_front(), twin.pop_front()),
                }
                prop_assert_eq!((queue.len(), queue.is_empty(), queue.front()), (twin.len(), twin.is_empty(), twin.front()));
                prop_assert!(queue.iter().eq(&twin));
            }
        }
    }
}
