//! docs/benchmarks.md: all of it is written here, but for what stands between two marks.

use crate::charts::Picture;
use crate::report::{Backing, OURS, Report, Taken};
use crate::statistics::confidence;
use crate::table;

/// What a person writes, and a run leaves alone.
const BY_HAND: (&str, &str) = ("<!-- by hand: begin -->", "<!-- by hand: end -->");
const NOTHING_YET: &str = "Nothing is said about this run yet.";

/// The text between two marks, without its outer blank lines.
pub(crate) fn between<'a>(text: &'a str, (begin, end): (&str, &str)) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(inside, _)| inside.trim_matches('\n'))
}

/// The same text with something else between the marks. None where they are not.
pub(crate) fn replace(text: &str, (begin, end): (&str, &str), inside: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{}\n{end}{after}", inside.trim_matches('\n')))
}

/// The whole page; `old` is what stands there now.
pub(crate) fn write(report: &Report, pictures: &[Picture], old: &str) -> String {
    let by_hand = between(old, BY_HAND).unwrap_or(NOTHING_YET);
    let mut page = String::from("# Speed, beside tgt, nbdkit and nfs-ganesha\n\n");
    page.push_str(&introduction(report));
    page.push_str(&format!("\n## Goals\n\n{}.\n\n", table::summary(report)));
    page.push_str(&table::goals(report).markdown());
    page.push_str("\nThroughput, CPU and latency are those with the file in memory.\n");
    page.push_str(&format!("\n## What bounds it\n\n{}\n", BY_HAND.0));
    page.push_str(&format!("{by_hand}\n{}\n", BY_HAND.1));
    for backing in [Backing::Memory, Backing::PageCache] {
        page.push_str(&section(report, backing, pictures));
    }
    for picture in pictures.iter().filter(|picture| picture.name == "connections.svg") {
        page.push_str(&format!("\n## More connections\n\n{}\n", image(picture)));
    }
    page.push_str(&files(report, pictures));
    page.push_str(&safety(report));
    page.push_str(&idle(report));
    page.push_str(&conditions(report));
    page
}

fn introduction(report: &Report) -> String {
    format!(
        "One run of `{}`, {}: all servers run side by side and are measured in turn, round by \
         round, over loopback. Figures are medians of {} rounds of {} s, with the least and the \
         greatest in brackets. tgt is the iSCSI target in user space of the distributions; nbdkit \
         speaks NBD, a simpler protocol without reservations, and stands for what a thread pool \
         over plain files can do.\n\nPatterns: `rr` and `rw` are random reads and writes, `sr` and \
         `sw` sequential ones; then the size, the commands in flight, `f` for a flush after each \
         write, and `xN` for N connections. `@1` binds server and load to one core, `@2` each to a \
         core of its own.\n",
        report.command, report.machine.date, report.rounds, report.seconds
    )
}

fn image(picture: &Picture) -> String {
    format!("![{}](benchmarks/{})", picture.says, picture.name)
}

fn section(report: &Report, backing: Backing, pictures: &[Picture]) -> String {
    if report.patterns(backing).is_empty() {
        return String::new();
    }
    let title = match backing {
        Backing::Memory => "A file in memory",
        Backing::PageCache => "A file on disk, through the page cache",
    };
    let mut text = format!("\n## {title}\n");
    let end = format!("-{}.svg", backing.name());
    for picture in pictures.iter().filter(|picture| picture.name.ends_with(&end)) {
        text.push_str(&format!("\n{}\n", image(picture)));
    }
    text.push_str(&format!("\n{}", table::throughput(report, backing).markdown()));
    text.push_str("\nCPU of the server's process for each I/O, and latencies; medians:\n\n");
    text.push_str(&table::costs(report, backing).markdown());
    text
}

/// What the table of floors means.
const FLOOR: &str = "Who asks for small files waits most of the time: for the client, for the \
    kernel's TCP, and until the other side is awake. No server changes that. So two servers that \
    do nothing are measured in the same rounds. They read no message and look at no file: each \
    request is answered with as many bytes as a real reply has. The load makes the same system \
    calls as for the others, but neither makes nor reads the operations of NFS. One of the two \
    sleeps until a request comes; the other looks for it again and again before it sleeps, which \
    keeps a core busy. The faster of them is the floor: about the most that a server could \
    reach on this machine in that moment. Where the last column is below 2, twice nfs-ganesha was \
    hardly possible. It is no proof: a server of fewer threads than connections wakes up less \
    often when there are many clients.";

/// When and where a part was measured.
fn taken(taken: &Taken) -> String {
    let Taken { machine, command } = taken;
    format!(
        "Measured by `{command}` on {}, {} ({} cores), kernel {}, commit {}, load before {}.",
        machine.date,
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.commit,
        machine.load
    )
}

fn files(report: &Report, pictures: &[Picture]) -> String {
    let Some(files) = &report.files else { return String::new() };
    let mut text = format!(
        "\n## File volumes\n\n{} Medians of {} rounds of {} s, servers in turn, each on a directory \
         of the same file system ({}), over NFSv4.1 from our own client. `read4k`, `write4k`, \
         `read1m` and `write1m` go to one file in the page cache, so many requests under way on \
         one connection, or with `xN` on each of N; requests that are ready at the same time are \
         sent together, as the kernel's client does; `sync4k` is FILE_SYNC; a run of `write1m` ends with a COMMIT that counts. \
         The others are small files: `create` is OPEN and CLOSE, `stat` LOOKUP and GETATTR, \
         `read` OPEN, READ of 4 KiB and CLOSE. The number behind them is that of the clients, each \
         with a connection and a session. `xN` gives each client N programs, as a machine has: \
         each works in a directory of its own, one request after another; they share the session, \
         and what they ask at the same time is sent together.\n\n\
         Durability: what nfs-ganesha makes, renames or removes is not on the medium when it \
         answers, as with a volume of ours that is `relaxed`. A volume as it comes waits for the \
         medium, so its `create` and `unlink` stand beside the others for their price, not for a \
         race.\n",
        taken(&files.taken),
        files.rounds,
        files.seconds,
        files.file_system
    );
    for picture in pictures.iter().filter(|picture| picture.name.starts_with("files")) {
        text.push_str(&format!("\n{}\n", image(picture)));
    }
    text.push_str(&format!("\n{}\n", table::files(files).markdown()));
    if let Some(floor) = table::floor(files) {
        text.push_str(&format!("{FLOOR}\n\n{}\n", floor.markdown()));
    }
    for server in &files.servers {
        text.push_str(&format!("- {} {}: {}.\n", server.name, server.version, server.how));
    }
    files.skipped.iter().for_each(|why| text.push_str(&format!("- {why}.\n")));
    text
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}

fn safety(report: &Report) -> String {
    let Some(safety) = &report.safety else { return String::new() };
    let mut text = format!(
        "\n## What safety costs\n\nRandom writes of 4 KiB, 32 in flight, by the holder of a \
         reservation of type 5 (Write Exclusive - Registrants Only) among {} registrants, against \
         the same writes with nobody registered: {} pairs of slices of {} s next to each other, \
         the first of a pair alternating. A write without costs {:.2} µs of CPU and {:.2} µs by \
         the clock. {}\n\n| with, against without | median | 95 % confidence |\n| --- | ---: | ---: |\
         \n",
        safety.registrants,
        safety.cpu_ratios.len(),
        safety.slice_s,
        safety.plain_cpu_us,
        safety.plain_time_us,
        taken(&safety.taken)
    );
    for (what, ratios) in [
        ("server CPU of a write", &safety.cpu_ratios),
        ("time of a write by the clock", &safety.time_ratios),
    ] {
        if let Some(found) = confidence(ratios) {
            let [median, least, most] = [found.median, found.least, found.most].map(percent);
            let line = format!("| {what} | {median:+.2} % | {least:+.2} to {most:+.2} % |\n");
            text.push_str(&line);
        }
    }
    text.push_str("\nThe bounds are those of a bootstrap of the median.\n");
    text
}

fn idle(report: &Report) -> String {
    if report.idle.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n## Idle\n\nCPU time of the process with sessions that are logged in and say nothing:\n\
         \n| server | sessions | seconds | CPU ms |\n| --- | ---: | ---: | ---: |\n",
    );
    for idle in &report.idle {
        let line = format!(
            "| {} | {} | {:.1} | {:.2} |\n",
            idle.server, idle.sessions, idle.seconds, idle.cpu_ms
        );
        text.push_str(&line);
    }
    text
}

fn conditions(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "\n## Conditions\n\n| | |\n| --- | --- |\n| date | {} |\n| processor | {}, {} cores, which \
         servers and load share |\n| memory | {} |\n| system | {}, kernel {} |\n| load before \
         | {} |\n| volume | {}, filled before |\n| load made by | {} |\n| took | {:.0} min |\n",
        machine.date,
        machine.processor,
        machine.cores,
        bytesize::ByteSize(machine.memory_bytes),
        machine.system,
        machine.kernel,
        machine.load,
        bytesize::ByteSize(report.volume_bytes),
        report.generator,
        report.minutes
    );
    for server in &report.servers {
        let commit = if server.name == OURS && !machine.commit.is_empty() {
            format!(" ({})", machine.commit)
        } else {
            String::new()
        };
        let line = format!("| {} | {}{commit}: {} |\n", server.name, server.version, server.how);
        text.push_str(&line);
    }
    if !report.skipped.is_empty() {
        text.push_str("\nNot as it should be in this run:\n\n");
        report.skipped.iter().for_each(|why| text.push_str(&format!("- {why}.\n")));
    }
    text.push_str(
        "\nAll samples are in [results.json](benchmarks/results.json); `cargo xtask bench --render \
         docs/benchmarks/results.json` draws this page anew from them.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{files as files_of, report};
    use crate::report::{FLOORS, GANESHA, TGT};

    #[test]
    fn what_stands_between_the_marks_outlives_a_run() {
        let report = report(&[("rr4k-32", OURS, 1e5, 5.0), ("rr4k-32", TGT, 25e3, 21.0)]);
        let pictures = crate::charts::draw(&report);
        let first = write(&report, &pictures, "");
        assert!(first.contains(NOTHING_YET) && first.contains("| rr4k-32 | IOPS |"), "{first}");
        assert!(first.contains("](benchmarks/random-memory.svg)"), "{first}");
        let edited = replace(&first, BY_HAND, "The loopback bounds it.").unwrap();
        let second = write(&report, &pictures, &edited);
        assert!(second.contains("The loopback bounds it.") && !second.contains(NOTHING_YET));
        assert_eq!(write(&report, &pictures, &second), second, "writing again changes nothing");
        assert!(!second.lines().any(|line| line.ends_with(' ')), "{second}");
    }

    #[test]
    fn the_floor_is_on_the_page_where_it_was_measured() {
        let page = |figures: &[_]| {
            let report = Report { files: Some(files_of(figures)), ..Report::default() };
            write(&report, &crate::charts::draw(&report), "")
        };
        let mut figures = vec![("stat-1", OURS, 3e4, 9.0), ("stat-1", GANESHA, 2e4, 9.0)];
        let older = page(&figures);
        assert!(older.contains("| stat-1 |") && !older.contains(FLOOR), "{older}");
        figures.push(("stat-1", FLOORS[1], 4e4, 1.0));
        let page = page(&figures);
        assert!(page.contains(FLOOR) && page.contains("](benchmarks/files-small.svg)"), "{page}");
    }

    #[test]
    fn results_that_were_kept_before_there_was_a_floor_are_still_drawn() {
        let kept = include_str!("../../docs/benchmarks/results.json");
        let report: Report = serde_json::from_str(kept).unwrap();
        let page = write(&report, &crate::charts::draw(&report), "");
        assert!(page.contains("| create-16 | a second |") && page.contains("| read4k-32 |"));
    }

    #[test]
    fn marks_that_are_not_there_are_not_invented() {
        assert_eq!(between("no marks", BY_HAND), None);
        assert_eq!(replace("no marks", BY_HAND, "x"), None);
        let text = format!("a\n{}\nold\n{}\nb\n", BY_HAND.0, BY_HAND.1);
        assert_eq!(between(&text, BY_HAND), Some("old"));
        let wanted = format!("a\n{}\nnew\n{}\nb\n", BY_HAND.0, BY_HAND.1);
        assert_eq!(replace(&text, BY_HAND, "new"), Some(wanted));
    }
}
