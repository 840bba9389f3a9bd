//! What the kernel says of a change, as the watches of a machine hear of it.

use std::collections::HashMap;

use berth_protocol::agent::ShareChange;

use super::record::{
    ATTRIB, CLOSE_WRITE, CREATE, DELETE, DELETE_SELF, Entry, Event, Handle, MODIFY, MOVE_SELF, MOVED_FROM,
    MOVED_TO, ONDIR, Q_OVERFLOW, RENAME,
};

/// What changes a file and not its name, in the order in which one thing leads to the other.
const OF_FILES: [u64; 3] = [MODIFY, ATTRIB, CLOSE_WRITE];
const OF_ITSELF: [u64; 5] = [MODIFY, ATTRIB, CLOSE_WRITE, MOVE_SELF, DELETE_SELF];

/// Which watches a file has: several if it is in several shares.
pub(super) type Watches = HashMap<Handle, Vec<u64>>;

pub(super) struct Translator<'a> {
    pub(super) watches: &'a Watches,
    /// The machine's own: its kernel knows what they do.
    pub(super) server: &'a [u32],
    /// Of the last rename.
    pub(super) cookie: &'a mut u32,
    /// Whether the watched directory has that name now.
    pub(super) exists: &'a dyn Fn(u64, &[u8]) -> bool,
}

impl Translator<'_> {
    /// Each with one kind of event.
    pub(super) fn translate(&mut self, event: &Event) -> Vec<ShareChange> {
        if event.mask & Q_OVERFLOW != 0 {
            return vec![change(0, Q_OVERFLOW, 0, b"")];
        }
        if u32::try_from(event.pid).is_ok_and(|pid| self.server.contains(&pid)) {
            return vec![];
        }
        let mut changes = Vec::new();
        self.renamed(event, &mut changes);
        let named = event.entry.as_ref().filter(|entry| !self.of(&entry.directory).is_empty());
        if let Some(entry) = named {
            self.named(entry, event.mask, &mut changes);
        }
        // Who watches the directory and the file hears of the file twice; the guest's kernel sees to that.
        let of_itself = if named.is_some() { MOVE_SELF | DELETE_SELF } else { !0 };
        for id in event.itself.iter().flat_map(|itself| self.of(itself)) {
            let kinds = OF_ITSELF.iter().filter(|kind| event.mask & of_itself & **kind != 0);
            changes.extend(kinds.map(|kind| change(*id, kind | (event.mask & ONDIR), 0, b"")));
        }
        changes
    }

    fn of(&self, handle: &Handle) -> &[u64] {
        self.watches.get(handle).map_or(&[], Vec::as_slice)
    }

    fn renamed(&mut self, event: &Event, changes: &mut Vec<ShareChange>) {
        if event.mask & RENAME == 0 {
            return;
        }
        *self.cookie = self.cookie.wrapping_add(1).max(1);
        for (entry, kind) in [(&event.old, MOVED_FROM), (&event.new, MOVED_TO)] {
            let Some(entry) = entry else { continue };
            let moved = |id: &u64| change(*id, kind | (event.mask & ONDIR), *self.cookie, &entry.name);
            changes.extend(self.of(&entry.directory).iter().map(moved));
        }
    }

    fn named(&self, entry: &Entry, mask: u64, changes: &mut Vec<ShareChange>) {
        for id in self.of(&entry.directory) {
            // One after the other they are one event in the kernel's queue, and which was the last is forgotten.
            let in_order = match mask & (CREATE | DELETE) {
                both if both == CREATE | DELETE && (self.exists)(*id, &entry.name) => [DELETE, CREATE],
                _ => [CREATE, DELETE],
            };
            let kinds = in_order.into_iter().chain(OF_FILES).filter(|kind| mask & kind != 0);
            changes.extend(kinds.map(|kind| change(*id, kind | (mask & ONDIR), 0, &entry.name)));
        }
    }
}

fn change(watch_id: u64, events: u64, cookie: u32, name: &[u8]) -> ShareChange {
    let events = u32::try_from(events).expect("inotify's events are of 32 bits");
    ShareChange { watch_id, events, cookie, name: name.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(byte: u8) -> Handle {
        Handle { kind: 1, bytes: vec![byte] }
    }

    fn entry(directory: u8, name: &str) -> Option<Entry> {
        Some(Entry { directory: handle(directory), name: name.into() })
    }

    /// Of directory 1 (watches 10 and 11) and file 2 (watch 20), where the name "there" exists.
    fn translated(event: &Event) -> Vec<(u64, u64, u32, String)> {
        let watches = HashMap::from([(handle(1), vec![10, 11]), (handle(2), vec![20])]);
        let exists = |_id, name: &[u8]| name == b"there";
        let mut cookie = 6;
        let mut translator =
            Translator { watches: &watches, server: &[99], cookie: &mut cookie, exists: &exists };
        let changes = translator.translate(event).into_iter();
        let name = |name: Vec<u8>| String::from_utf8(name).unwrap();
        changes.map(|it| (it.watch_id, it.events.into(), it.cookie, name(it.name))).collect()
    }

    #[test]
    fn what_its_own_server_does_a_machine_does_not_hear() {
        let event = Event { mask: CREATE, pid: 99, entry: entry(1, "a"), ..Event::default() };
        assert_eq!(translated(&event), []);
        assert_eq!(translated(&Event { pid: 98, ..event }).len(), 2);
    }

    #[test]
    fn a_rename_out_of_sight_is_half_a_rename() {
        let event = Event { mask: RENAME, old: entry(1, "a"), new: entry(7, "b"), ..Event::default() };
        assert_eq!(translated(&event), [(10, MOVED_FROM, 7, "a".into()), (11, MOVED_FROM, 7, "a".into())]);
    }

    #[test]
    fn what_was_made_and_removed_ends_as_it_is_now() {
        let of = |name| Event { mask: CREATE | DELETE, entry: entry(1, name), ..Event::default() };
        let kinds = |event| translated(&event).iter().map(|it| it.1).collect::<Vec<_>>();
        assert_eq!(kinds(of("there"))[..2], [DELETE, CREATE]);
        assert_eq!(kinds(of("gone"))[..2], [CREATE, DELETE]);
    }

    #[test]
    fn a_file_is_told_of_once_by_its_directory_and_else_by_itself() {
        let mask = MODIFY | CLOSE_WRITE;
        let itself = Some(handle(2));
        let in_watched = Event { mask, entry: entry(1, "a"), itself: itself.clone(), ..Event::default() };
        assert!(translated(&in_watched).iter().all(|it| it.0 != 20 && it.3 == "a"));
        let elsewhere = Event { mask, entry: entry(7, "a"), itself, ..Event::default() };
        let none = String::new();
        assert_eq!(translated(&elsewhere), [(20, MODIFY, 0, none.clone()), (20, CLOSE_WRITE, 0, none)]);
    }

    #[test]
    fn lost_events_are_told_to_all() {
        assert_eq!(
            translated(&Event { mask: Q_OVERFLOW, pid: -1, ..Event::default() }),
            [(0, Q_OVERFLOW, 0, String::new())]
        );
    }
}
