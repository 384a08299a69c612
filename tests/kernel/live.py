"""Outputs appear while a cell runs, and go on changing after it."""

from __future__ import annotations

import re
from pathlib import Path

from cells import LIVE, MODEL, RUN, Gate
from session import Cell, Kernel, Message, display_id


def plain(message: Message) -> str:
    return str(message["content"]["data"].get("text/plain", ""))


def live_displays(cell: Cell) -> list[str]:
    """The ids of a cell's displays that can be updated."""
    found = [display_id(m) for m in cell.of("display_data", "execute_result")]
    return [identity for identity in found if identity]


def test_a_printed_line_arrives_while_the_cell_runs(kernel: Kernel, folder: Path) -> None:
    gate = Gate(folder)
    cell = kernel.send(f'println!("before the gate");\n{gate.wait}\nprintln!("behind it");')
    kernel.until("the line", lambda: cell.stdout == "before the gate\n")
    assert cell.reply is None
    gate.open()
    assert kernel.finish(cell).stdout == "before the gate\nbehind it\n"


def test_a_display_arrives_while_the_cell_runs(kernel: Kernel, folder: Path) -> None:
    gate = Gate(folder)
    cell = kernel.send(f'show(&Text::new("in between"));\n{gate.wait}\n"the value"')
    kernel.until("the display", lambda: cell.of("display_data"))
    assert cell.reply is None
    assert "in between" in cell.shown("text/html")[0]
    gate.open()
    kernel.finish(cell)
    assert len(cell.of("display_data")) == 1 and len(cell.of("execute_result")) == 1, cell.text()


def test_displays_and_lines_keep_their_order(kernel: Kernel) -> None:
    code = "\n".join(
        f'println!("line {n}"); show(&Text::new("display {n}")); eprintln!("warning {n}");' for n in range(5)
    )
    cell = kernel.ok(code)
    said = [
        m["content"]["text"].strip() if m["msg_type"] == "stream" else plain(m)
        for m in cell.of("stream", "display_data")
    ]
    words = re.findall(r"(?:line|display|warning) \d", "\n".join(said))
    assert words == [f"{kind} {n}" for n in range(5) for kind in ("line", "display", "warning")], said


def test_a_display_is_updated_while_another_cell_runs(fresh: Kernel, tmp_path: Path) -> None:
    fresh.ok(MODEL)
    fresh.ok(RUN)
    panel = fresh.ok(f"run.start(500)?;\n{LIVE}")
    assert live_displays(panel), f"nothing that can be updated:\n{panel.text()}"
    identity = live_displays(panel)[0]
    gate = Gate(tmp_path)
    other = fresh.send(f'println!("another cell");\n{gate.wait}')
    fresh.until("the other cell runs", lambda: other.stdout)
    seen = len(fresh.updates(identity))
    fresh.until("three updates", lambda: len(fresh.updates(identity)) >= seen + 3)
    assert other.reply is None
    gate.open()
    fresh.finish(other)
    assert other.stdout == "another cell\n" and not other.shown(), f"a stranger's output:\n{other.text()}"
    html = [m["content"]["data"]["text/html"] for m in fresh.updates(identity)]
    assert len(set(html)) > 2, "the updates do not differ"
    taken = [m["taken"] for m in fresh.updates(identity)]
    assert len(taken) <= 2 * (taken[-1] - taken[0]) + 2, f"{len(taken)} updates in {taken[-1] - taken[0]:.1f} s"
    fresh.ok("run.pause()?")
    count = len(fresh.updates(identity))
    assert "paused" in plain(fresh.updates(identity)[-1]), plain(fresh.updates(identity)[-1])
    fresh.ok("std::thread::sleep(std::time::Duration::from_secs(2));")
    assert len(fresh.updates(identity)) == count, "a run that is paused goes on drawing"


def test_a_panel_ends_with_the_final_figures(fresh: Kernel) -> None:
    fresh.ok(MODEL)
    fresh.ok(RUN)
    panel = fresh.ok(f"run.start(12)?;\n{LIVE}")
    fresh.ok("run.wait()?;")
    fresh.ok("();")
    last = fresh.updates(live_displays(panel)[0])[-1]
    assert re.search(r"\b12\b", plain(last)), plain(last)
    said = (plain(last) + str(last["content"]["data"]["text/html"])).lower()
    for word in ("loss", "tokens/s", "rank", "memory"):
        assert word in said, f"no {word}:\n{plain(last)}"


def test_progress_is_one_display_that_moves(fresh: Kernel) -> None:
    fresh.ok(MODEL)
    fresh.ok(RUN)
    cell = fresh.ok("run.steps(60)?;")
    assert cell.stdout == "" and cell.stream("stderr") == "", f"lines of progress:\n{cell.text()}"
    bars = live_displays(cell)
    assert len(bars) == 1, f"{len(bars)} displays"
    assert len(fresh.updates(bars[0])) >= 2, "it did not move"


def test_a_thread_prints_into_no_other_cell(kernel: Kernel, folder: Path) -> None:
    gate = Gate(folder)
    kernel.ok(
        f'let thread = std::thread::spawn(|| {{ {gate.wait}\nfor n in 0..50 {{ println!("thread {{n}}"); }} }});'
    )
    cells = [kernel.ok(f'println!("cell {n}");') for n in range(3)]
    gate.open()
    cells += [kernel.ok(f'println!("cell {n}");') for n in range(3, 6)]
    assert [cell.stdout for cell in cells] == [f"cell {n}\n" for n in range(6)]


def test_a_thread_prints_and_shows_in_its_own_cell_while_another_runs(kernel: Kernel, folder: Path) -> None:
    first, second = Gate(folder), Gate(folder)
    said = 'println!("thread {}", 1); eprintln!("warned"); show(&Text::new("its picture"));'
    spawning = kernel.ok(f"let thread = std::thread::spawn(|| {{ {first.wait}\n{said} }});")
    stranger = kernel.send(f'println!("stranger");\n{second.wait}\nprintln!("end");')
    kernel.until("the other cell runs", lambda: stranger.stdout)
    first.open()
    kernel.until("the thread's picture", lambda: spawning.of("display_data"))
    second.open()
    kernel.finish(stranger)
    assert (spawning.stdout, spawning.stream("stderr")) == ("thread 1\n", "warned\n"), spawning.text()
    assert stranger.stdout == "stranger\nend\n" and not stranger.of("display_data"), stranger.text()
    assert stranger.stream("stderr") == "", stranger.text()


def test_a_function_of_an_earlier_cell_prints_where_it_is_called(kernel: Kernel) -> None:
    kernel.ok('fn greet() { println!("hello"); }')
    cell = kernel.ok("greet();\nstd::thread::spawn(greet).join().unwrap();")
    assert cell.stdout == "hello\nhello\n", cell.text()


def test_threads_that_a_cell_waits_for_print_in_order(kernel: Kernel) -> None:
    spawned = "std::thread::scope(|scope| { scope.spawn(|| println!(\"thread {n}\")); });"
    code = "\n".join(f'println!("before {n}"); {spawned.replace("{n}", str(n))}' for n in range(20))
    said = kernel.ok(code + '\nprintln!("end");').stdout
    assert said == "".join(f"before {n}\nthread {n}\n" for n in range(20)) + "end\n"


def test_whoever_holds_the_standard_output_hangs_nobody(kernel: Kernel) -> None:
    """Two locks are taken in one order: that of the standard output, and that of the channel."""
    code = """use std::io::Write as _;
let thread;
{
    let mut out = std::io::stdout().lock();
    println!("first");
    thread = std::thread::spawn(|| { for n in 0..50 { println!("thread {n}"); } });
    std::thread::sleep(std::time::Duration::from_millis(200));
    writeln!(out, "held")?;
    println!("last");
}
thread.join().unwrap();"""
    cell = kernel.finish(kernel.send(code), 30)
    assert cell.status == "ok", cell.text()
    lines = cell.stdout.splitlines()
    assert [line for line in lines if not line.startswith("thread")] == ["first", "held", "last"], lines
    assert [line for line in lines if line.startswith("thread")] == [f"thread {n}" for n in range(50)]


def test_many_pieces_of_a_thread_are_few_messages(kernel: Kernel) -> None:
    said = "for n in 0..20_000 { println!(\"piece {n}\"); }"
    cell = kernel.ok(f"std::thread::spawn(|| {{ {said} }}).join().unwrap();")
    assert cell.stdout == "".join(f"piece {n}\n" for n in range(20_000))
    assert len(cell.of("stream")) < 5_000, len(cell.of("stream"))


def test_a_display_stands_within_a_line(kernel: Kernel) -> None:
    cell = kernel.ok('print!("begun, "); show(&Text::new("in between")); println!("ended");')
    kinds = [(m["msg_type"], m["content"].get("text", "")) for m in cell.of("stream", "display_data")]
    assert kinds == [("stream", "begun, "), ("display_data", ""), ("stream", "ended\n")]


def test_generated_text_streams(kernel: Kernel) -> None:
    """A text appears in pieces, before the cell's end, and stands there whole in the end."""
    kernel.ok(MODEL)
    config = "GenerateConfig { max_tokens: 300, ..GenerateConfig::default() }"
    ask = f'model.chat_live(&Adapters::default(), &[Message::user("How many geese?")], &{config})?'
    cell = kernel.ok(f"let made = {ask};")
    assert len(cell.of("stream")) >= 2, f"{len(cell.of('stream'))} pieces:\n{cell.text()}"
    # What commands a terminal is shown as a sign.
    whole = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", kernel.prints('print!("{}", made.text)').replace("\r", ""))
    assert cell.stdout.rstrip("\n") == whole.rstrip("\n")


def test_generation_is_one_bar(kernel: Kernel) -> None:
    kernel.ok(MODEL)
    config = "GenerateConfig { max_tokens: 400, ..GenerateConfig::default() }"
    questions = ", ".join(['"How many geese?"'] * 30)
    cell = kernel.ok(f"let compared = model.compare(&Adapters::default(), &[{questions}], &{config})?;")
    bars = live_displays(cell)
    assert len(bars) == 1, f"{len(bars)} displays:\n{cell.text()}"
    assert "answering 60/60, done in" in plain(kernel.updates(bars[0])[-1])
