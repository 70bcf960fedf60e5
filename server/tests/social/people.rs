use bowline_protocol::command::{PeopleChange, ProfileChange};
use bowline_protocol::wire::{self, PeopleKind};
use bowline_protocol::{Code, UserId};

use crate::fixture::*;

#[tokio::test]
async fn a_profile_shows_counts_and_what_the_reader_has_to_do_with_it() {
    let world = World::start().await;
    let [ada, ben, cem] = world.users().await;
    let change = |name: Option<&str>, url: Option<&str>, bio: Option<&str>| {
        let [display_name, avatar_url, bio] = [name, url, bio].map(|text| text.map(str::to_owned));
        PeopleChange::Profile(ProfileChange { display_name, avatar_url, bio })
    };
    world.people(ada, change(Some("Ada"), Some("https://files.example.org/ada.png"), Some("Sails."))).await;
    world.people(ada, change(None, Some(""), None)).await;
    world.post(ada, "one").await;
    for user in [ben, cem] {
        world.people(user, PeopleChange::Follow(ada)).await;
    }
    world.people(ada, PeopleChange::Follow(ben)).await;
    world.people(cem, PeopleChange::Mute(ada)).await;
    let person = wire::Person { user_id: ada.to_wire(), display_name: "Ada".to_owned(), avatar_url: String::new() };
    let shown = wire::Profile {
        person: Some(person),
        bio: "Sails.".to_owned(),
        followers: 2,
        followees: 1,
        posts: 1,
        ..Default::default()
    };
    for (reader, expected) in [
        (ada, shown.clone()),
        (ben, wire::Profile { followed: true, follows_you: true, ..shown.clone() }),
        (cem, wire::Profile { followed: true, muted: true, ..shown.clone() }),
    ] {
        assert_eq!(world.graph.profile(reader, ada, soon()).await.unwrap(), expected);
    }
    world.people(cem, PeopleChange::Block(ada)).await;
    let expected = wire::Profile { followers: 1, muted: true, blocked: true, ..shown };
    assert_eq!(world.graph.profile(cem, ada, soon()).await.unwrap(), expected, "who blocks can see whom, to unblock");
    let refused = world.graph.profile(ada, cem, soon()).await.unwrap_err();
    assert_eq!((refused.code, refused.field.as_deref()), (Code::NotFound, Some("user_id")));
    assert_eq!(
        world.graph.profile(ada, UserId::new(), soon()).await.unwrap_err(),
        refused,
        "as for one who is not there"
    );
}

#[tokio::test]
async fn lists_of_people_are_whole_and_for_whom_they_are() {
    let world = World::start().await;
    let [ada, ben, cem] = world.users().await;
    let crowd: [UserId; 23] = world.users().await;
    for user in crowd {
        world.people(user, PeopleChange::Follow(ada)).await;
        world.people(ben, PeopleChange::Follow(user)).await;
        world.people(cem, PeopleChange::Block(user)).await;
        world.people(cem, PeopleChange::Mute(user)).await;
    }
    let newest: Vec<UserId> = crowd.into_iter().rev().collect();
    for (kind, of) in [
        (PeopleKind::Followers, ada),
        (PeopleKind::Followees, ben),
        (PeopleKind::Blocked, cem),
        (PeopleKind::Muted, cem),
    ] {
        for limit in [1, 5, 22, 23, 100] {
            let mut listed = world.listed(of, kind, of, limit).await.unwrap();
            // Of one millisecond the id decides.
            assert_eq!(listed.len(), 23, "{kind:?} in pages of {limit}");
            listed.sort();
            let mut all = newest.clone();
            all.sort();
            assert_eq!(listed, all, "{kind:?} in pages of {limit}");
        }
        let foreign = match kind {
            PeopleKind::Followers | PeopleKind::Followees => Ok(23),
            PeopleKind::Blocked | PeopleKind::Muted => Err(Code::Forbidden),
        };
        let stranger = if of == ada { ben } else { ada };
        assert_eq!(world.listed(stranger, kind, of, 100).await.map(|people| people.len()), foreign, "{kind:?}");
    }
    assert_eq!(
        world.listed(crowd[0], PeopleKind::Followees, cem, 5).await,
        Err(Code::NotFound),
        "cem blocked this one"
    );
    assert_eq!(world.listed(ada, PeopleKind::Followers, UserId::new(), 5).await, Err(Code::NotFound));
    assert_eq!(world.listed(ada, PeopleKind::Followees, ada, 5).await, Ok(vec![]));
}
