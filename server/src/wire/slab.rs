//! A slab in pages: it grows without moving what is in it, and a key outlives what it named.

/// Names a value until it is removed; afterwards it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub index: u32,
    pub generation: u32,
}

impl Key {
    /// As the token of a readiness event.
    pub(super) fn to_token(self) -> mio::Token {
        mio::Token(self.index as usize | (self.generation as usize) << 32)
    }

    pub(super) fn of_token(token: mio::Token) -> Self {
        Self { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

const PAGE: usize = 256;
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Slab<T> {
    pages: Vec<Vec<Cell<T>>>,
    free: u32,
}

#[derive(Debug)]
struct Cell<T> {
    generation: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Used(T),
    Free { next: u32 },
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { pages: Vec::new(), free: NONE }
    }

    /// Every index ever given out is below this.
    pub(super) fn bound(&self) -> u32 {
        self.pages.last().map_or(0, |last| ((self.pages.len() - 1) * PAGE + last.len()) as u32)
    }

    /// The key that the next insert will give.
    pub(super) fn next_key(&self) -> Key {
        match self.cell(self.free) {
            Some(cell) => Key { index: self.free, generation: cell.generation },
            None => Key { index: self.bound(), generation: 0 },
        }
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        if let Some(cell) = self.cell_mut(key.index) {
            if let State::Free { next } = std::mem::replace(&mut cell.state, State::Used(value)) {
                self.free = next;
            }
            return key;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(Cell { generation: 0, state: State::Used(value) });
        }
        key
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let next = self.free;
        let cell = self.cell_mut(key.index)?;
        cell.generation = cell.generation.wrapping_add(1);
        let State::Used(value) = std::mem::replace(&mut cell.state, State::Free { next }) else { return None };
        self.free = key.index;
        Some(value)
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        match self.cell(key.index)? {
            Cell { generation, state: State::Used(value) } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.cell_mut(key.index)? {
            Cell { generation, state: State::Used(value) } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value at an index that something else keeps alive.
    pub(super) fn at(&self, index: u32) -> Option<&T> {
        match &self.cell(index)?.state {
            State::Used(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match &mut self.cell_mut(index)?.state {
            State::Used(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    /// The key of what is at an index.
    pub(super) fn key_at(&self, index: u32) -> Option<Key> {
        match self.cell(index)? {
            Cell { generation, state: State::Used(_) } => Some(Key { index, generation: *generation }),
            _ => None,
        }
    }

    fn cell(&self, index: u32) -> Option<&Cell<T>> {
        self.pages.get(index as usize / PAGE)?.get(index as usize % PAGE)
    }

    fn cell_mut(&mut self, index: u32) -> Option<&mut Cell<T>> {
        self.pages.get_mut(index as usize / PAGE)?.get_mut(index as usize % PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_nothing_once_its_value_is_gone() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..600).map(|i| slab.insert(i)).collect();
        assert_eq!(slab.remove(keys[300]), Some(300));
        assert_eq!(slab.remove(keys[300]), None);
        assert_eq!(slab.next_key(), Key { index: 300, generation: 1 });
        let reused = slab.insert(7);
        assert_eq!((reused.index, slab.get(keys[300]), slab.get(reused)), (300, None, Some(&7)));
        assert_eq!(Key::of_token(reused.to_token()), reused);
        assert_eq!(slab.bound(), 600);
        for key in keys.into_iter().filter(|key| key.index != 300) {
            assert_eq!(slab.remove(key), Some(key.index as i32));
        }
        assert_eq!((slab.get(reused), slab.bound()), (Some(&7), 600));
    }
}
