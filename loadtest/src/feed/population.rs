//! Who lives in the feed, taken from real chat: whoever addresses somebody in a room follows him, likes what he wrote last and
//! comments on it with these words; what addresses nobody is a post. The same transcript and numbers give the same people. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::transcript::Transcript;

#[derive(Debug, Default, PartialEq, Hash)]
pub(crate) struct Population {
    /// Their names; a person's number is his place.
    pub(crate) people: Vec<String>,
    pub(crate) posts: Vec<Post>,
    pub(crate) follows: Vec<Follow>,
    pub(crate) reactions: Vec<Reaction>,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Post {
    pub(crate) author: u32,
    /// Which of his author's.
    pub(crate) number: u32,
    pub(crate) body: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(crate) struct Follow {
    pub(crate) who: u32,
    pub(crate) whom: u32,
}

/// A like, or a comment.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Reaction {
    pub(crate) who: u32,
    /// Its place among the posts.
    pub(crate) post: u32,
    pub(crate) comment: Option<Arc<str>>,
}

/// Of one person, so that the most talkative don't make the seeding long.
const LIKES: u32 = 16;
const COMMENTS: u32 = 4;

impl Population {
    /// So many people: the cast of the transcript, whole again and again, its last repetition cut to those who came first.
    pub(crate) fn new(transcript: &Transcript, users: u32, posts_each: u32) -> Self {
        let cast = Self::cast(transcript, posts_each);
        let size = u32::try_from(cast.people.len()).unwrap_or(u32::MAX).max(1);
        let mut all = Self::default();
        for (round, first) in (0..).zip((0..users).step_by(size as usize)) {
            all.add(&cast, round, first, users);
        }
        all
    }

    /// Whether each person follows somebody who wrote something: his feed has something in it.
    pub(crate) fn owed(&self) -> Vec<bool> {
        let authors: HashSet<u32> = self.posts.iter().map(|post| post.author).collect();
        let mut owed = vec![false; self.people.len()];
        for follow in self.follows.iter().filter(|follow| authors.contains(&follow.whom)) {
            owed[follow.who as usize] = true;
        }
        owed
    }

    fn cast(transcript: &Transcript, posts_each: u32) -> Self {
        let numbers: HashMap<&str, u32> = transcript.authors.iter().map(|name| &**name).zip(0..).collect();
        let mut told = Telling { posts_each, ..Telling::default() };
        for line in transcript.rooms.iter().flat_map(|room| &room.lines) {
            // What no server takes as words.
            if line.body.trim().is_empty() || line.body.contains('\0') {
                continue;
            }
            let addressed = addressed(&line.body).and_then(|name| numbers.get(name));
            match addressed.filter(|whom| **whom != line.author) {
                Some(whom) => told.addressed(line.author, *whom, &line.body),
                None => told.posted(line.author, &line.body),
            }
        }
        Self { people: transcript.authors.clone(), ..told.population }
    }

    /// Those of the cast whose number in all is below `end`.
    fn add(&mut self, cast: &Self, round: u32, first: u32, end: u32) {
        let here = |person: u32| first + person < end;
        let name = |name: &String| if round == 0 { name.clone() } else { format!("{name} {}", round + 1) };
        self.people.extend(cast.people.iter().take((end - first) as usize).map(name));
        let mut places = HashMap::new();
        for (place, post) in (0..).zip(&cast.posts).filter(|(_, post)| here(post.author)) {
            places.insert(place, self.posts.len() as u32);
            self.posts.push(Post { author: first + post.author, ..post.clone() });
        }
        let follows = cast.follows.iter().filter(|follow| here(follow.who) && here(follow.whom));
        self.follows.extend(follows.map(|follow| Follow { who: first + follow.who, whom: first + follow.whom }));
        let reactions = cast.reactions.iter().filter(|reaction| here(reaction.who));
        self.reactions.extend(reactions.filter_map(|reaction| {
            let post = *places.get(&reaction.post)?;
            Some(Reaction { who: first + reaction.who, post, comment: reaction.comment.clone() })
        }));
    }
}

/// What is known while the lines are read.
#[derive(Default)]
struct Telling {
    population: Population,
    posts_each: u32,
    /// Of each person: how many he wrote, and the last one.
    posts: HashMap<u32, (u32, u32)>,
    pairs: HashSet<(u32, u32)>,
    liked: HashSet<(u32, u32)>,
    likes: HashMap<u32, u32>,
    comments: HashMap<u32, u32>,
}

impl Telling {
    fn posted(&mut self, author: u32, body: &str) {
        let (count, last) = self.posts.entry(author).or_default();
        if *count < self.posts_each {
            *last = self.population.posts.len() as u32;
            self.population.posts.push(Post { author, number: *count, body: body.into() });
            *count += 1;
        }
    }

    fn addressed(&mut self, who: u32, whom: u32, body: &str) {
        if self.pairs.insert((who, whom)) {
            self.population.follows.push(Follow { who, whom });
        }
        let Some((_, post)) = self.posts.get(&whom) else { return };
        let room = |of: &mut HashMap<u32, u32>, most: u32| {
            let count = of.entry(who).or_default();
            *count += 1;
            *count <= most
        };
        if self.liked.insert((who, *post)) && room(&mut self.likes, LIKES) {
            self.population.reactions.push(Reaction { who, post: *post, comment: None });
        }
        if room(&mut self.comments, COMMENTS) {
            self.population.reactions.push(Reaction { who, post: *post, comment: Some(body.into()) });
        }
    }
}

/// `nick: …` and `nick, …`, as people say it on IRC.
fn addressed(body: &str) -> Option<&str> {
    let first = body.split_whitespace().next()?;
    first.strip_suffix([':', ','])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"room":"a","at":"2004-12-25T09:14:00Z","from":"x","body":"one"}
{"room":"a","at":"2004-12-25T09:14:00Z","from":"y","body":"x: two"}
{"room":"a","at":"2004-12-25T09:14:00Z","from":"y","body":"x, three"}
{"room":"a","at":"2004-12-25T09:14:00Z","from":"y","body":""}
{"room":"b","at":"2004-12-25T09:14:00Z","from":"x","body":"four"}
{"room":"b","at":"2004-12-25T09:14:00Z","from":"x","body":"z: five"}
{"room":"b","at":"2004-12-25T09:14:00Z","from":"z","body":"x: six"}
{"room":"b","at":"2004-12-25T09:14:00Z","from":"z","body":"nobody: seven"}
{"room":"b","at":"2004-12-25T09:14:00Z","from":"z","body":"z: eight"}
"#;

    fn population(users: u32, posts_each: u32) -> Population {
        let transcript = Transcript::parse(TEXT.as_bytes(), None, None).expect("a transcript");
        Population::new(&transcript, users, posts_each)
    }

    fn follows(population: &Population) -> Vec<(u32, u32)> {
        population.follows.iter().map(|follow| (follow.who, follow.whom)).collect()
    }

    #[test]
    fn who_addresses_whom_gives_follows_and_reactions_and_the_rest_is_posts() {
        let all = population(3, 9);
        assert_eq!(all.people, ["x", "y", "z"]);
        let posts: Vec<_> = all.posts.iter().map(|post| (post.author, post.number, &*post.body)).collect();
        assert_eq!(posts, [(0, 0, "one"), (0, 1, "four"), (2, 0, "nobody: seven"), (2, 1, "z: eight")]);
        assert_eq!(follows(&all), [(1, 0), (0, 2), (2, 0)]);
        let reactions: Vec<_> =
            all.reactions.iter().map(|reaction| (reaction.who, reaction.post, reaction.comment.as_deref())).collect();
        let words = |text| Some(text);
        assert_eq!(
            reactions,
            [(1, 0, None), (1, 0, words("x: two")), (1, 0, words("x, three")), (2, 1, None), (2, 1, words("x: six"))],
            "one like a post; z had written nothing when he was addressed"
        );
        assert_eq!(all.owed(), [true, true, true]);
        assert_eq!(population(3, 1).posts.len(), 2, "of each so many");
    }

    #[test]
    fn the_cast_is_repeated_or_cut() {
        let two = population(2, 9);
        assert_eq!((two.people.len(), two.posts.len(), follows(&two)), (2, 2, vec![(1, 0)]));
        assert_eq!(two.owed(), [false, true], "z, whom x follows, is not there");
        let five = population(5, 9);
        assert_eq!(five.people, ["x", "y", "z", "x 2", "y 2"]);
        assert_eq!(follows(&five), [(1, 0), (0, 2), (2, 0), (4, 3)]);
        assert!(five.posts.iter().skip(4).all(|post| post.author == 3));
        let last = five.reactions.last().expect("some");
        assert_eq!((last.who, five.posts[last.post as usize].author), (4, 3), "communities don't mix");
        assert_eq!(five, population(5, 9));
        assert_eq!(population(0, 9), Population::default());
    }
}
