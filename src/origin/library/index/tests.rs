//! The index over real files: what it keeps, what it does not believe, and that nothing that happens to it is fatal.

use super::super::catalog::Catalog;
use super::*;
use std::fs;

struct World {
    directory: tempfile::TempDir,
    metrics: Arc<Metrics>,
    folder: Arc<Folder>,
}

fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let films = directory.path().join("films");
    fs::create_dir(&films).unwrap();
    World { directory, metrics: Arc::new(Metrics::new()), folder: Arc::new(Folder::new(&films)) }
}

impl World {
    fn index_folder(&self) -> PathBuf {
        self.directory.path().join("index")
    }

    fn database(&self) -> PathBuf {
        self.index_folder().join("films.sqlite")
    }

    /// A new process's view.
    fn index(&self) -> Index {
        let films = [self.folder.path().to_owned()];
        Index::new(Some(&self.index_folder()), "films", &films, Arc::clone(&self.metrics))
    }

    fn title(&self, name: &str, modified_s: i64) -> Arc<Title> {
        let path = PathBuf::from(format!("{name}.mp4"));
        let stamp = Stamp { inode: u64::MAX, modified_s, modified_ns: 5, bytes: 7 };
        Arc::new(Title {
            id: title_id(self.folder.path(), &path),
            name: name.into(),
            kind: Kind::File,
            duration_s: Some(1.5),
            bytes: Some(7),
            folder: Arc::clone(&self.folder),
            path,
            stamp: Some(stamp),
            known: ArcSwap::default(),
        })
    }

    fn loaded(&self, index: &Index) -> Vec<Arc<Title>> {
        Catalog::new(index.load(&[Arc::clone(&self.folder)])).titles().to_vec()
    }

    fn errors(&self) -> u64 {
        self.metrics.library_index_errors.with_label_values(&["films"]).get()
    }
}

fn names(titles: &[Arc<Title>]) -> Vec<&str> {
    titles.iter().map(|title| title.name.as_str()).collect()
}

fn film(text: &str) -> Stored {
    Stored { said: Ok(text.into()), build: "5.1".into(), at_s: 10 }
}

#[test]
fn a_restart_finds_titles_and_what_was_known_of_them() {
    let world = world();
    let index = world.index();
    assert!(!index.ready(), "a new index is not behind: there is nothing it could lack");
    let [a, b] = ["a \u{fffd} é", "b"].map(|name| world.title(name, 1));
    index.save(&[Arc::clone(&a), Arc::clone(&b)]);
    index.keep(&a.id, FILM, &a.stamp.unwrap(), &film(r#"{"width":64,"height":48}"#));
    let broken = Stored { said: Err("moov atom not found".into()), ..film("") };
    index.keep(&b.id, FILM, &b.stamp.unwrap(), &broken);
    drop(index);

    let index = world.index();
    assert!(!index.ready());
    let titles = world.loaded(&index);
    assert_eq!(names(&titles), ["a \u{fffd} é", "b"]);
    assert!(titles[0].is_unchanged(&a) && titles[0].id == a.id && titles[0].path == a.path);
    assert_eq!(titles[0].known.load().facts().map(|facts| facts.width), Some(64));
    assert_eq!(titles[1].known.load().broken(), Some("moov atom not found"));
    assert_eq!(index.found(&b.id, FILM, &b.stamp.unwrap()), Some(broken));
    assert_eq!(world.errors(), 0);
}

#[test]
fn what_is_known_holds_for_one_version_and_comes_back_with_a_share() {
    let world = world();
    let index = world.index();
    index.ready();
    let old = world.title("a", 1);
    index.save(&[Arc::clone(&old)]);
    index.keep(&old.id, FILM, &old.stamp.unwrap(), &film(r#"{"width":64,"height":48}"#));
    // The share is away, and comes back as it was.
    index.missing(std::slice::from_ref(&old.id));
    assert!(world.loaded(&index).is_empty());
    let again = world.title("a", 1);
    index.save(&[Arc::clone(&again)]);
    assert!(again.known.load().facts().is_some());
    assert_eq!(world.loaded(&index).len(), 1);
    // Another version.
    let new = world.title("a", 2);
    index.save(&[Arc::clone(&new)]);
    assert_eq!(**new.known.load(), Known::Nothing);
    assert_eq!(index.found(&new.id, FILM, &new.stamp.unwrap()), None);
    assert_eq!(index.found(&new.id, FILM, &old.stamp.unwrap()), None, "the older version is forgotten");
}

#[test]
fn titles_of_other_folders_and_forged_rows_are_not_believed() {
    let world = world();
    let index = world.index();
    index.ready();
    index.save(&[world.title("good", 1), world.title("moved", 1)]);
    let connection = Connection::open(world.database()).unwrap();
    connection.execute("UPDATE titles SET path = CAST('../../etc/passwd' AS BLOB) WHERE name = 'moved'", []).unwrap();
    assert_eq!(names(&world.loaded(&index)), ["good"]);
    let other = Arc::new(Folder::new(Path::new("/elsewhere")));
    assert!(index.load(&[other]).is_empty());
}

#[test]
fn a_damaged_database_is_set_aside_and_made_anew() {
    for damage in ["garbage", "torn", "foreign", "newer"] {
        let world = world();
        let index = world.index();
        index.ready();
        let titles: Vec<_> = (0..300).map(|number| world.title(&format!("film {number}"), 1)).collect();
        index.save(&titles);
        drop(index);
        match damage {
            "garbage" => {
                fs::write(world.database(), "no database at all, but long enough to be read as one".repeat(99)).unwrap()
            }
            "torn" => {
                let bytes = fs::read(world.database()).unwrap();
                let torn: Vec<u8> =
                    bytes.iter().enumerate().map(|(at, byte)| if at < 4096 { *byte } else { !*byte }).collect();
                fs::write(world.database(), torn).unwrap();
            }
            "foreign" => {
                let connection = Connection::open(world.database()).unwrap();
                connection.execute_batch("DROP TABLE found; DROP TABLE titles; CREATE TABLE titles (x)").unwrap();
            }
            _ => Connection::open(world.database()).unwrap().pragma_update(None, "user_version", 999).unwrap(),
        }
        let index = world.index();
        let behind = index.ready();
        assert!(world.loaded(&index).is_empty(), "{damage}");
        // Some damage shows only when it is read.
        assert!(index.ready() || behind, "{damage}: everything must be saved again");
        index.save(&titles);
        assert_eq!(world.loaded(&index).len(), 300, "{damage}");
        assert!(index.trouble().is_none() && world.errors() > 0, "{damage}");
        assert!(world.database().with_extension("sqlite.damaged").exists(), "{damage}");
    }
}

#[test]
fn a_place_that_cannot_be_written_is_no_need() {
    let world = world();
    fs::write(world.index_folder(), "a file where a folder should be").unwrap();
    let index = world.index();
    index.ready();
    assert!(index.trouble().is_some() && world.errors() > 0);
    let held = index.place.lock();
    assert!(index.trouble().is_some(), "it must not wait for the database");
    drop(held);
    let title = world.title("a", 1);
    index.save(&[Arc::clone(&title)]);
    index.keep(&title.id, FILM, &title.stamp.unwrap(), &film("{}"));
    index.missing(std::slice::from_ref(&title.id));
    assert!(world.loaded(&index).is_empty() && index.found(&title.id, FILM, &title.stamp.unwrap()).is_none());
    // Somebody mends it: the next scan is told to save everything.
    fs::remove_file(world.index_folder()).unwrap();
    assert!(index.ready() && index.trouble().is_none());
    index.save(&[title]);
    assert_eq!(world.loaded(&index).len(), 1);
}

#[test]
fn nothing_is_written_among_the_films_not_even_through_a_link() {
    let world = world();
    std::os::unix::fs::symlink(world.folder.path(), world.index_folder()).unwrap();
    let index = world.index();
    index.ready();
    assert!(index.trouble().unwrap().contains("among the films"));
    assert_eq!(fs::read_dir(world.folder.path()).unwrap().count(), 0);
}

#[test]
fn two_processes_may_write() {
    let world = world();
    let [one, other] = [world.index(), world.index()];
    one.ready();
    other.ready();
    std::thread::scope(|scope| {
        for (index, letter) in [(&one, "a"), (&other, "b")] {
            let world = &world;
            scope.spawn(move || (0..20).for_each(|n| index.save(&[world.title(&format!("{letter}{n}"), 1)])));
        }
    });
    assert_eq!(world.loaded(&one).len(), 40);
    assert_eq!(world.errors(), 0);
}

#[test]
fn an_origins_name_is_a_file_name_whatever_it_is() {
    let world = world();
    for name in ["../../films", "", "a/b", &"x".repeat(300)] {
        let index = Index::new(Some(&world.index_folder()), name, &[], Arc::clone(&world.metrics));
        index.ready();
        assert!(index.trouble().is_none(), "{name}");
    }
    assert_eq!(fs::read_dir(world.folder.path()).unwrap().count(), 0);
    assert!(fs::read_dir(world.directory.path()).unwrap().count() == 2);
}
