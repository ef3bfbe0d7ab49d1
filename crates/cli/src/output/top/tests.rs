//! Frames as text, on the screen and as JSON.

use std::time::Duration;

use ratatui_core::backend::TestBackend;
use ratatui_core::style::Modifier;
use ratatui_core::terminal::Terminal;
use sameport_policy::model::{Address, Process, Protocol};
use sameport_policy::top::{
    TopConnection, TopHistory, TopListener, TopLook, TopPhase, TopState, TopView, TopWorker,
};

use super::draw::draw;
use super::keys::Key;
use super::screen_state::{KeyEffect, ScreenState};
use super::{json, lines};
use crate::operations::top::TopSample;
use crate::operations::top::actions::TopAction;

fn listener(pid: i32, port: u16) -> TopListener {
    TopListener {
        address: Address::new(Protocol::Tcp, ([127, 0, 0, 1], port).into()),
        cookie: u64::from(pid.unsigned_abs()),
        inode: 0,
        queue: 0,
        backlog: 128,
        drops: Some(0),
        steered: Some(false),
        processes: vec![Process::new(pid, "server")],
        kept_by: None,
        worker: None,
    }
}

fn of_run(number: u16, phase: TopPhase, listener: TopListener) -> TopListener {
    let pid = listener.processes[0].pid;
    let run = "web".to_owned();
    let worker = TopWorker { run, user: None, number, pid, phase, restarts: 2 };
    TopListener { worker: Some(worker), ..listener }
}

/// A port with a run of three workers and one with two other programs; two looks, 2 s apart.
fn sample() -> TopSample {
    let mut hung = of_run(2, TopPhase::Ready, listener(22, 8080));
    hung.queue = 3;
    let listeners = vec![
        of_run(1, TopPhase::Ready, listener(21, 8080)),
        hung,
        of_run(3, TopPhase::Starting, listener(23, 8080)),
        listener(31, 9090),
        TopListener { processes: vec![], ..listener(32, 9090) },
    ];
    let connection = |cookie, accepted, owner| TopConnection {
        cookie,
        local: ([127, 0, 0, 1], 8080).into(),
        accepted,
        owner,
    };
    let waiting = (1..4).map(|cookie| connection(cookie, false, None));
    let served = |most| (10..most).map(|cookie| connection(cookie, true, Some(21)));
    let look = |seconds, most| TopLook {
        at: Duration::from_secs(seconds),
        listeners: listeners.clone(),
        connections: waiting.clone().chain(served(most)).collect(),
        passive_opens: Some(seconds * 100),
        ..TopLook::default()
    };
    let mut history = TopHistory::default();
    history.add(&look(0, 15));
    TopSample { frame: history.add(&look(2, 18)), notes: vec!["a note \u{1b}[2J".into()] }
}

fn state(sample: TopSample) -> ScreenState {
    let mut state = ScreenState::new(TopView::default(), None, Duration::from_secs(1));
    state.sample = Some(sample);
    state
}

fn screen(state: &mut ScreenState, columns: u16, rows: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(state, frame.area(), frame.buffer_mut())).unwrap();
    terminal
}

/// The lines of a screen, without spaces at their ends, up to the last that has a text.
fn screen_lines(state: &mut ScreenState, columns: u16, rows: u16) -> Vec<String> {
    let terminal = screen(state, columns, rows);
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..columns).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..rows).map(line).collect()
}

fn press(state: &mut ScreenState, keys: &str) -> KeyEffect {
    keys.chars().fold(KeyEffect::Redraw, |_, key| state.key(Key::Char(key)))
}

/// The text of the selected row.
fn selected(state: &mut ScreenState) -> String {
    let terminal = screen(state, 80, 24);
    let buffer = terminal.backend().buffer();
    let is_selected = |y: &u16| buffer[(79, *y)].modifier.contains(Modifier::REVERSED);
    let rows: Vec<u16> = (2..22).filter(is_selected).collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    (0..80).map(|x| buffer[(x, rows[0])].symbol()).collect::<String>().trim().to_owned()
}

const FRAME: &str = "\
sameport top  2 ports, 5 members  all ports: 100 new/s
  MEMBER  PID  PROGRAM  NEW/S  OPEN  QUEUE  DROPS  RESTARTS  STATE
8080/tcp  hash  3 members  1.5 new/s  8 open  queue 3/384  127.0.0.1
  web.1    21  server     1.5     8  0/128      0         2  serving
  web.2    22  server       0     0  3/128      0         2  hung
  web.3    23  server       0     0  0/128      0         2  held-back
9090/tcp  hash  2 members  0 new/s  0 open  queue 0/256  127.0.0.1
  -         -  -            -     -  0/128      0         -  serving
  31       31  server       0     0  0/128      0         -  serving
";

#[test]
fn a_frame_is_a_table_in_a_pipe() {
    assert_eq!(lines::text(&sample(), &TopView::default(), None), FRAME);
}

#[test]
fn a_narrow_frame_leaves_columns_out_and_cuts_the_rest() {
    for width in [10, 20, 40, 60] {
        let text = lines::text(&sample(), &TopView::default(), Some(width));
        assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
    }
    let text = lines::text(&sample(), &TopView::default(), Some(48));
    let header = "  MEMBER  PID  NEW/S  OPEN  QUEUE  STATE";
    assert_eq!(text.lines().nth(1), Some(header), "{text}");
}

#[test]
fn the_screen_of_80_columns_has_everything() {
    let shown = screen_lines(&mut state(sample()), 80, 24);
    let first = FRAME.lines().next().unwrap();
    assert_eq!(shown[0], format!("{first}  every 1 s  by name"));
    let expected: Vec<&str> = FRAME.lines().skip(1).collect();
    assert_eq!(shown[1..9], expected);
    assert!(shown[9..22].iter().all(String::is_empty), "{shown:?}");
    // Control characters are escaped.
    assert_eq!(shown[22], "a note \\u{1b}[2J");
    assert!(shown[23].starts_with("q quit"), "{shown:?}");
}

#[test]
fn a_small_screen_says_so_and_goes_on() {
    let mut quiet = sample();
    quiet.notes.clear();
    let shown = screen_lines(&mut state(quiet.clone()), 60, 15);
    assert_eq!(shown[13], "60x15: 80x24 shows every column");
    assert!(shown[3].starts_with("  web.1") && shown[3].ends_with("serving"), "{shown:?}");
    let shown = screen_lines(&mut state(quiet.clone()), 29, 10);
    assert_eq!(shown[0], "29x10: top needs 30x6");
    for (columns, rows) in [(1, 1), (2, 40), (30, 6), (31, 7), (300, 100)] {
        screen_lines(&mut state(quiet.clone()), columns, rows);
    }
}

#[test]
fn the_selection_follows_its_row() {
    let mut state = state(sample());
    assert!(selected(&mut state).starts_with("8080/tcp"));
    press(&mut state, "jj");
    assert!(selected(&mut state).starts_with("web.2"));
    // Longest queue first: the row moves, and stays selected.
    press(&mut state, "sss");
    assert!(selected(&mut state).starts_with("web.2"));
    assert!(screen_lines(&mut state, 80, 24)[3].starts_with("  web.2"));
    press(&mut state, "G");
    assert!(selected(&mut state).starts_with("31"));
    press(&mut state, "jjj");
    assert!(selected(&mut state).starts_with("31"));
    press(&mut state, "g");
    assert!(selected(&mut state).starts_with("8080/tcp"));
    state.key(Key::PageDown);
    assert!(selected(&mut state).starts_with("31"));
    // The member is gone: its group is selected.
    press(&mut state, "a");
    if let Some(sample) = &mut state.sample {
        sample.frame.groups[1].members.pop();
    }
    assert!(selected(&mut state).starts_with("9090/tcp"));
}

#[test]
fn a_long_list_scrolls_with_the_selection() {
    let mut history = TopHistory::default();
    let listeners = (1..=500).map(|pid| listener(pid, 80)).collect();
    let frame = history.add(&TopLook { listeners, ..TopLook::default() });
    let mut state = state(TopSample { frame, notes: vec![] });
    screen_lines(&mut state, 80, 24);
    press(&mut state, "G");
    let shown = screen_lines(&mut state, 80, 24);
    assert!(shown[21].starts_with("  500 "), "{shown:?}");
    press(&mut state, "kkk");
    assert_eq!(screen_lines(&mut state, 80, 24)[21], shown[21]);
    state.key(Key::PageUp);
    let shown = screen_lines(&mut state, 80, 24);
    assert!(shown[2].starts_with("  478 "), "{shown:?}");

    state.view.fold = Some(16);
    press(&mut state, "g");
    let folded = screen_lines(&mut state, 80, 24);
    assert!(folded[19].starts_with("  … and 484 more, 0 open"), "{folded:?}");
    state.key(Key::Enter);
    assert!(screen_lines(&mut state, 80, 24)[19].starts_with("  17 "));
}

#[test]
fn a_restart_is_confirmed() {
    let restart = KeyEffect::Act(TopAction::Restart { run: "web".into(), user: None });
    let question = "restart web? y: yes, any other key: no";
    for select in ["", "j", "jj"] {
        let mut state = state(sample());
        assert_eq!(press(&mut state, &format!("{select}r")), KeyEffect::Redraw);
        assert_eq!(screen_lines(&mut state, 80, 24)[22], question);
        assert_eq!(press(&mut state, "y"), restart);
        // Any other key is no, also the one that quits.
        for no in [Key::Char('n'), Key::Char('q'), Key::Enter, Key::Escape] {
            press(&mut state, "r");
            assert_eq!(state.key(no), KeyEffect::Redraw);
            assert_eq!(press(&mut state, "y"), KeyEffect::Redraw);
        }
    }
    let mut state = state(sample());
    press(&mut state, "Gr");
    assert!(screen_lines(&mut state, 80, 24)[22].starts_with("select a member of a named run"));
    assert_eq!(press(&mut state, "y"), KeyEffect::Redraw);
}

/// The action of a key on the second worker of the run.
fn action(keys: &str) -> Option<TopAction> {
    let mut state = state(sample());
    match press(&mut state, &format!("jj{keys}")) {
        KeyEffect::Act(action) => Some(action),
        _ => None,
    }
}

#[test]
fn keys_drain_and_weigh_the_selected_member() {
    let drain = action("dy").unwrap();
    assert_eq!(drain.name(), "drain web.2 on 8080/tcp");
    assert_eq!(action("dn"), None);
    let step = action("+").unwrap();
    assert_eq!(step.name(), "web.2=2 on 8080/tcp");
    assert_eq!(action("-").unwrap().name(), "web.2=0 on 8080/tcp");

    // Draining already: the same key undoes it.
    let mut draining = sample();
    draining.frame.groups[0].members[1].state = TopState::Draining;
    let mut screen = state(draining);
    press(&mut screen, "jjd");
    let question = "undo the drain of web.2 on 8080/tcp? y: yes, any other key: no";
    assert_eq!(screen_lines(&mut screen, 80, 24)[22], question);

    // A group, and a member without a process.
    for (keys, said) in
        [("d", "can be drained"), ("+", "a weight above 0"), ("-", "a weight above 0")]
    {
        for select in ["g", "jjjjj"] {
            let mut screen = state(sample());
            assert_eq!(press(&mut screen, &format!("{select}{keys}")), KeyEffect::Redraw);
            assert!(screen_lines(&mut screen, 80, 24)[22].ends_with(said), "{select} {keys}");
        }
    }
}

#[test]
fn help_covers_the_list_until_a_key_comes() {
    let mut state = state(sample());
    press(&mut state, "?");
    let shown = screen_lines(&mut state, 80, 24);
    assert_eq!(
        (&*shown[0], &*shown[23]),
        ("sameport top: keys and columns", "any key closes this")
    );
    assert!(shown.iter().all(|line| line.chars().count() < 80), "{shown:?}");
    press(&mut state, "x");
    assert!(screen_lines(&mut state, 80, 24)[2].starts_with("8080/tcp"));
    press(&mut state, "?");
    assert_eq!(press(&mut state, "q"), KeyEffect::Quit);
    assert_eq!(press(&mut state, "q"), KeyEffect::Quit);
    assert_eq!(state.key(Key::Escape), KeyEffect::Quit);
}

#[test]
fn an_empty_screen_says_what_is_missing() {
    let mut state = ScreenState::new(TopView::default(), Some("80/tcp".into()), Duration::ZERO);
    assert_eq!(screen_lines(&mut state, 80, 24)[2], "looking");
    press(&mut state, "jkGgrs");
    state.sample = Some(TopSample::default());
    assert_eq!(screen_lines(&mut state, 80, 24)[2], "no socket is on port 80/tcp");
    state.error = Some("it broke".into());
    assert_eq!(screen_lines(&mut state, 80, 24)[22], "the last look failed: it broke");
}

#[test]
fn json_has_every_value() {
    let found = json::frame(&sample(), &TopView::default());
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!((&found["version"], &found["interval"]), (&1.into(), &2.0.into()));
    assert_eq!(found["new_per_second"], 100.0);
    let group = &found["groups"][0];
    assert_eq!(
        (&group["port"], &group["policy"], &group["open"]),
        (&8080.into(), &"hash".into(), &8.into())
    );
    let expected = serde_json::json!({
        "run": "web", "worker": 1, "user": null, "pid": 21, "program": "server", "other_processes": 0,
        "new_per_second": 1.5, "exact": false, "chosen": null, "open": 8, "queue": 0, "backlog": 128,
        "drops": 0, "restarts": 2, "weight": null, "state": "serving",
    });
    assert_eq!(group["members"][0], expected);
    assert_eq!(group["members"][1]["state"], "hung");
    let hidden = &found["groups"][1]["members"][0];
    assert_eq!(
        (&hidden["pid"], &hidden["open"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
}
