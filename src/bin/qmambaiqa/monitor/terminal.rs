//! The view in a terminal: a row with a curve for each stream, and what happened last.

use super::board::Board;
use super::view::{Snapshot, State};
use crate::common::hold_complaints;
use anyhow::{Context, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{List, Paragraph, RenderDirection, Sparkline};
use ratatui::{DefaultTerminal, Frame};
use std::time::Duration;

/// So many rows are left to what happened, where there are so many.
const EVENTS: u16 = 6;
/// Highest curve, in rows.
const ROWS: u16 = 4;
/// Widest name, in columns.
const NAME: usize = 32;

/// A terminal that this program has for itself; it is given back when dropped, and when something panics.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// # Errors
    /// The terminal refuses.
    pub fn open() -> Result<Self> {
        let terminal = ratatui::try_init().context("the terminal cannot be drawn in: --plain does without")?;
        hold_complaints(true);
        Ok(Self { terminal })
    }

    /// Shows the board, with what was complained of meanwhile.
    pub fn draw(&mut self, board: &mut Board) -> Result<()> {
        hold_complaints(true).into_iter().for_each(|text| board.note_now(text));
        self.terminal.draw(|frame| render(board, frame)).context("terminal")?;
        Ok(())
    }

    /// Reads keys: whether one says to end.
    pub fn is_over(&mut self) -> Result<bool> {
        while event::poll(Duration::ZERO).context("terminal")? {
            let Event::Key(key) = event::read().context("terminal")? else { continue };
            match key.code {
                _ if key.kind != KeyEventKind::Press => {}
                KeyCode::Char('q') => return Ok(true),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(true),
                // A library may have written in between.
                KeyCode::Char('l') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                    self.terminal.clear().context("terminal")?;
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
        hold_complaints(false).iter().for_each(|text| eprintln!("qmambaiqa: {text}"));
    }
}

fn render(board: &Board, frame: &mut Frame) {
    let now = board.now();
    let streams: Vec<Snapshot> = board.views.iter().map(|view| view.snapshot(now)).collect();
    let [head, middle, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(EVENTS)]).areas(frame.area());
    let window = board.window().as_secs() / 60;
    frame.render_widget(Line::from(format!("Video quality, the last {window} minutes; q ends")).bold(), head);

    let each = (middle.height / u16::try_from(streams.len()).unwrap_or(u16::MAX).max(1)).clamp(1, ROWS);
    let name = streams.iter().map(|stream| stream.name.chars().count()).max().unwrap_or(0).min(NAME) as u16;
    let shown = usize::from(middle.height / each);
    for (i, stream) in streams.iter().take(shown).enumerate() {
        row(stream, name, Rect { y: middle.y + i as u16 * each, height: each, ..middle }, frame);
    }
    let more = streams.len().saturating_sub(shown);
    let more = (more > 0).then(|| format!("{more} more streams: the terminal is too low").into());
    let lines = more.into_iter().chain(board.happenings.iter().map(|happening| Line::from(happening.text.as_str())));
    frame.render_widget(List::new(lines), foot);
}

fn row(stream: &Snapshot, name: u16, area: Rect, frame: &mut Frame) {
    let widths = [name + 2, 12, 7, 16].map(Constraint::Length);
    let [names, states, scores, alarms, curve] =
        Layout::horizontal(widths.into_iter().chain([Constraint::Fill(1)])).areas(area);
    let bad = Style::new().fg(Color::Red);
    let state = if stream.state == State::Playing.name() { Style::new().fg(Color::Green) } else { bad };
    frame.render_widget(Line::from(stream.name).bold(), names);
    frame.render_widget(Span::styled(stream.state, state), states);
    frame.render_widget(stream.score.map_or("-".into(), |score| format!("{score:.1}")), scores);
    let alarm =
        stream.alarm.map(|reason| Span::styled(format!("ALARM {reason}"), bad.add_modifier(Modifier::REVERSED)));
    frame.render_widget(Paragraph::new(alarm.unwrap_or_default()), alarms);
    // The newest is at the right.
    let scores = stream.curve.iter().rev().map(|score| score.map(|score| score.round() as u64));
    let sparkline = Sparkline::default().data(scores).max(100).direction(RenderDirection::RightToLeft);
    frame.render_widget(sparkline.absent_value_symbol(" "), curve);
}

#[cfg(test)]
mod tests {
    use super::super::stream::Event;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(board: &Board, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| render(board, frame)).unwrap();
        let cells = terminal.backend().buffer().content();
        cells.chunks(width.into()).map(|row| row.iter().map(|cell| cell.symbol()).collect()).collect()
    }

    #[test]
    fn streams_have_rows_with_curves_at_the_right_and_events_below() {
        let names = ["front", "back"].map(String::from);
        let mut board = Board::new(names.into_iter(), Duration::ZERO, 0.0);
        board.take(0, Event::Playing);
        board.views[0].history.push(Duration::ZERO, 100.0);
        board.take(1, Event::Lost { cause: "no cable".into(), failures: 1 });
        let rows = screen(&board, 60, 12);
        assert!(rows[0].starts_with("Video quality, the last 5 minutes; q ends"), "{rows:#?}");
        // Two rows each: five are there, six go to events.
        assert!(rows[1].starts_with("front  playing     -") && rows[1].ends_with('█'), "{rows:#?}");
        assert!(rows[2].ends_with('█') && rows[2].trim_end_matches('█').trim().is_empty(), "{rows:#?}");
        assert!(rows[3].starts_with("back   lost        -"), "{rows:#?}");
        assert_eq!([rows[6].trim_end(), rows[7].trim_end()], ["back  lost: no cable", "front  playing"], "{rows:#?}");
    }

    #[test]
    fn a_low_terminal_says_what_it_leaves_out() {
        let names = (0..16).map(|i| format!("camera {i}"));
        let board = Board::new(names, Duration::ZERO, 0.0);
        let rows = screen(&board, 80, 10);
        assert!(rows[3].starts_with("camera 2 ") && rows[4].starts_with("13 more streams"), "{rows:#?}");
        for (width, height) in [(1, 1), (3, 2), (20, 3), (200, 100)] {
            screen(&board, width, height);
        }
    }
}
