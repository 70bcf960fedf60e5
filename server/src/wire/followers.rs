//! Who follows a log in a shard.

/// A socket in a fan-out's list: its slot, and which of its logs this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Follower {
    pub slot: u32,
    pub nth: u32,
}

/// A list without order. Most logs are a user's own with one socket, which needs no allocation.
#[derive(Debug)]
pub(super) enum Followers {
    None,
    One([Follower; 1]),
    Many(Vec<Follower>),
}

impl Followers {
    pub(super) fn as_slice(&self) -> &[Follower] {
        match self {
            Followers::None => &[],
            Followers::One(one) => one,
            Followers::Many(many) => many,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Follower] {
        match self {
            Followers::None => &mut [],
            Followers::One(one) => one,
            Followers::Many(many) => many,
        }
    }

    /// Adds one at the end.
    pub(super) fn push(&mut self, follower: Follower) {
        match self {
            Followers::None => *self = Followers::One([follower]),
            Followers::One([first]) => *self = Followers::Many(vec![*first, follower]),
            Followers::Many(many) => {
                if many.len() == many.capacity() {
                    many.reserve_exact(1 + many.len() / 4);
                }
                many.push(follower);
            }
        }
    }

    /// Takes one out; the last one takes its place.
    pub(super) fn swap_remove(&mut self, place: usize) {
        match self {
            Followers::Many(many) if place < many.len() => {
                many.swap_remove(place);
                if many.is_empty() {
                    *self = Followers::None;
                }
            }
            Followers::One(_) if place == 0 => *self = Followers::None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever enters and leaves, the list is what a plain one would be.
        #[test]
        fn it_is_a_list(changes: Vec<Option<u8>>) {
            let (mut followers, mut plain) = (Followers::None, Vec::new());
            for (slot, change) in changes.into_iter().enumerate() {
                match change {
                    None => {
                        let follower = Follower { slot: slot as u32, nth: 0 };
                        followers.push(follower);
                        plain.push(follower);
                    }
                    Some(place) if usize::from(place) < plain.len() => {
                        followers.swap_remove(place.into());
                        plain.swap_remove(place.into());
                    }
                    Some(place) => followers.swap_remove(place.into()),
                }
                prop_assert_eq!(followers.as_slice(), plain.as_slice());
                prop_assert_eq!(&*followers.as_mut_slice(), plain.as_slice());
            }
        }
    }
}
