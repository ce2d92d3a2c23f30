//! The pictures of a report: bars for the patterns, lines for the connections.

use crate::files::Work;
use crate::goals::CONNECTIONS;
use crate::pattern::{Cores, Pattern};
use crate::report::{Backing, Files, GANESHA, NBDKIT, OURS, RELAXED, Report, Sample, TGT};
use crate::statistics::Spread;
use crate::svg::{Anchor, Drawing, Style, step};

/// Servers in the order of the bars, with colours that differ in brightness as well (after
/// Okabe and Ito): ours stands out.
const SERIES: Series = [(OURS, "#0b62a8"), (TGT, "#e69f00"), (NBDKIT, "#8a939c")];
/// The same for file volumes.
const FILES: Series = [(OURS, "#0b62a8"), (RELAXED, "#56b4e9"), (GANESHA, "#8a939c")];

type Series = [(&'static str, &'static str); 3];

const WIDTH: f64 = 900.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
/// Where titles begin.
const EDGE: f64 = 24.0;
const TITLE: &str = "#1f2328";
const QUIET: &str = "#59636e";
const GRID: &str = "#e6eaef";
const AXIS: &str = "#8c959f";
const WHISKER: &str = "#3d444d";
const BOUND: &str = "#b3261e";
/// From one panel's lower edge to the next one's upper edge, with the title of that.
const GAP: f64 = 54.0;
const HEAD: f64 = 100.0;
/// Room for the names at the ends of lines.
const NAMES: f64 = 116.0;
const FOOT: f64 = 58.0;
const PANEL: f64 = 210.0;
/// Narrower bars have no room for a number over them: the table has it.
const NUMBERED: f64 = 18.0;
/// Groups that are narrower have smaller names.
const ROOMY: f64 = 60.0;

/// Text in the colour for what is not the title.
fn quiet(size: f64, anchor: Anchor) -> Style {
    Style { size, colour: QUIET, bold: false, anchor }
}

fn strong(size: f64, colour: &'static str, anchor: Anchor) -> Style {
    Style { size, colour, bold: true, anchor }
}

/// A panel of bars: for each group a value of each series.
struct Panel {
    title: &'static str,
    groups: Vec<[Option<Spread>; 3]>,
    /// What bounds each group: a line across its bars.
    bounds: Vec<Option<f64>>,
}

/// A number for above a bar or beside an axis.
fn mark(value: f64) -> String {
    match value {
        large if large >= 99_950.0 => format!("{:.0}k", large / 1e3),
        large if large >= 9_995.0 => format!("{:.1}k", large / 1e3).replace(".0k", "k"),
        large if large >= 999.5 => format!("{:.1}k", large / 1e3).replace(".0k", "k"),
        large if large >= 99.5 => format!("{large:.0}"),
        small => {
            let text = if small >= 9.95 { format!("{small:.1}") } else { format!("{small:.2}") };
            let trimmed = text.trim_end_matches('0').trim_end_matches('.');
            if trimmed.is_empty() { "0".to_owned() } else { trimmed.to_owned() }
        }
    }
}

fn head(drawing: &mut Drawing, title: &str, below: &str) {
    drawing.text((EDGE, 36.0), strong(19.0, TITLE, Anchor::Start), title);
    drawing.text((EDGE, 57.0), quiet(13.0, Anchor::Start), below);
}

/// Who is what colour, in the order of the bars, at the right edge.
fn legend(drawing: &mut Drawing, series: Series, y: f64) {
    // A letter's width, about: fonts differ.
    let width = |name: &str| 18.0 + 8.2 * name.len() as f64 + 18.0;
    let all: f64 = series.iter().map(|(name, _)| width(name)).sum();
    let mut x = WIDTH - RIGHT - all + 18.0;
    for (name, colour) in series {
        drawing.bar((x, y - 10.5), 12.0, 12.0, colour);
        drawing.text((x + 18.0, y), strong(13.0, TITLE, Anchor::Start), name);
        x += width(name);
    }
}

/// The highest value that is drawn to scale: bars, and bounds that do not dwarf them.
fn top(panel: &Panel) -> f64 {
    let values = panel.groups.iter().flatten().flatten();
    let bars = values.map(|spread| spread.most).fold(0.0, f64::max);
    let bounds = panel.bounds.iter().copied().flatten();
    bounds.filter(|bound| *bound <= 2.0 * bars).fold(bars, f64::max)
}

/// A line at this height over the foot of a group; where that is outside of the panel, its number.
fn bound(drawing: &mut Drawing, (middle, foot): (f64, f64), (width, unit): (f64, f64), at: f64) {
    if at * unit > PANEL {
        let style = Style { size: 11.0, colour: BOUND, bold: false, anchor: Anchor::Middle };
        drawing.text((middle, foot - PANEL + 9.0), style, &format!("↑ {}", mark(at)));
        return;
    }
    let (y, half) = (foot - at * unit, width * 0.45);
    drawing.line((middle - half, y), (middle + half, y), BOUND, 2.0);
}

/// Grid lines and their numbers; the height of one unit. Above the highest value there is room
/// for its number.
fn axis(drawing: &mut Drawing, y: f64, most: f64, (left, right): (f64, f64)) -> f64 {
    let top = most.max(f64::MIN_POSITIVE) * 1.1;
    let (step, unit) = (step(top, 5.0), PANEL / top);
    let mut value = 0.0;
    while value <= top {
        let line = y + PANEL - value * unit;
        let colour = if value == 0.0 { AXIS } else { GRID };
        drawing.line((left, line), (right, line), colour, 1.0);
        drawing.text((left - 8.0, line + 4.0), quiet(12.0, Anchor::End), &mark(value));
        value += step;
    }
    unit
}

/// Panels over each other, with one row of labels below the last.
fn bars(
    (title, below): (&str, &str),
    series: Series,
    labels: &[[String; 2]],
    panels: &[Panel],
) -> String {
    let height = HEAD + panels.len() as f64 * PANEL + (panels.len() as f64 - 1.0) * GAP + FOOT;
    let mut drawing = Drawing::new(WIDTH, height, &format!("{title}. {below}"));
    head(&mut drawing, title, below);
    legend(&mut drawing, series, 36.0);
    let right = WIDTH - RIGHT;
    let group = (right - LEFT) / labels.len().max(1) as f64;
    for (row, panel) in panels.iter().enumerate() {
        let y = HEAD + row as f64 * (PANEL + GAP);
        let unit = axis(&mut drawing, y, top(panel), (LEFT, right));
        let style = strong(13.0, QUIET, Anchor::Start);
        drawing.text((EDGE, y - 14.0), style, panel.title);
        for (at, values) in panel.groups.iter().enumerate() {
            let middle = LEFT + (at as f64 + 0.5) * group;
            self::group(&mut drawing, (series, values), (middle, y + PANEL), (group, unit));
            if let Some(value) = panel.bounds.get(at).copied().flatten() {
                bound(&mut drawing, (middle, y + PANEL), (group, unit), value);
            }
        }
    }
    for (at, label) in labels.iter().enumerate() {
        let middle = LEFT + (at as f64 + 0.5) * group;
        let y = height - FOOT + 20.0;
        let size = if group < ROOMY { 10.5 } else { 12.5 };
        drawing.text((middle, y), strong(size, TITLE, Anchor::Middle), &label[0]);
        drawing.text((middle, y + 17.0), quiet(12.0, Anchor::Middle), &label[1]);
    }
    drawing.finish()
}

/// The bars of one group, about its middle and on its foot.
fn group(
    drawing: &mut Drawing,
    (series, values): (Series, &[Option<Spread>; 3]),
    (middle, foot): (f64, f64),
    (width, unit): (f64, f64),
) {
    let bar = (width * 0.27).min(44.0);
    let left = middle - bar * 1.5;
    for (at, (value, (_, colour))) in values.iter().zip(series).enumerate() {
        let x = left + at as f64 * bar;
        let Some(spread) = value else {
            drawing.text((x + bar / 2.0, foot - 6.0), quiet(11.0, Anchor::Middle), "–");
            continue;
        };
        let height = spread.median * unit;
        drawing.bar((x + 1.0, foot - height), bar - 2.0, height, colour);
        let (low, high) = (foot - spread.least * unit, foot - spread.most * unit);
        if low - high > 2.0 {
            drawing.line((x + bar / 2.0, low), (x + bar / 2.0, high), WHISKER, 1.0);
        }
        if bar < NUMBERED {
            continue;
        }
        let style =
            if at == 0 { strong(11.5, TITLE, Anchor::Middle) } else { quiet(11.0, Anchor::Middle) };
        let y = high.min(foot - height) - 5.0;
        drawing.text((x + bar / 2.0, y), style, &mark(spread.median));
    }
}

fn panel(
    report: &Report,
    backing: Backing,
    patterns: &[Pattern],
    title: &'static str,
    of: impl Fn(Pattern, &Sample) -> f64,
) -> Panel {
    let value = |pattern: Pattern, server: &str| {
        report.row(backing, &pattern.to_string(), server)?.spread(|sample| of(pattern, sample))
    };
    let groups = patterns.iter().map(|pattern| SERIES.map(|(name, _)| value(*pattern, name)));
    Panel { title, groups: groups.collect(), bounds: Vec::new() }
}

/// A file's name in docs/benchmarks and what is in it.
pub(crate) struct Picture {
    pub(crate) name: String,
    pub(crate) says: String,
    pub(crate) svg: String,
}

/// All pictures for which there are figures.
pub(crate) fn draw(report: &Report) -> Vec<Picture> {
    let mut pictures = Vec::new();
    for backing in [Backing::Memory, Backing::PageCache] {
        let patterns: Vec<Pattern> = report
            .patterns(backing)
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|pattern: &Pattern| matches!(pattern.connections, 1 | 4))
            .filter(|pattern| pattern.cores == Cores::Any)
            .collect();
        let (large, small): (Vec<Pattern>, Vec<Pattern>) =
            patterns.into_iter().partition(|pattern| pattern.access.is_sequential());
        pictures.extend((!small.is_empty()).then(|| random(report, backing, &small)));
        pictures.extend((!large.is_empty()).then(|| sequential(report, backing, &large)));
    }
    pictures.extend(connections(report));
    if let Some(all) = &report.files {
        let (data, small): (Vec<&str>, Vec<&str>) = all
            .patterns()
            .into_iter()
            .partition(|pattern| pattern.parse().is_ok_and(|work| matches!(work, Work::Data(_))));
        let [of_data, of_small] = [("files", "Files"), ("files-small", "Small files")];
        pictures.extend((!data.is_empty()).then(|| files(all, of_data, &data)));
        pictures.extend((!small.is_empty()).then(|| files(all, of_small, &small)));
    }
    pictures
}

fn place(backing: Backing) -> &'static str {
    match backing {
        Backing::Memory => "a file in memory",
        Backing::PageCache => "a file on disk, through the page cache",
    }
}

/// What is the same for all pictures of a run.
fn conditions(report: &Report) -> String {
    let machine = &report.machine;
    format!(
        "bars: median of {}; thin lines: least to most · {} cores shared with the load, loopback \
         · {}",
        report.rounds, machine.cores, machine.date
    )
}

fn random(report: &Report, backing: Backing, patterns: &[Pattern]) -> Picture {
    let labels: Vec<_> = patterns.iter().map(|pattern| pattern.label()).collect();
    let panels = [
        panel(report, backing, patterns, "IOPS (more is better)", |_, sample| sample.iops),
        panel(
            report,
            backing,
            patterns,
            "server CPU, µs per I/O (less is better)",
            |_, sample| sample.server_us,
        ),
    ];
    let says = format!("4 KiB random I/O on {}", place(backing));
    let svg = bars((&says, &conditions(report)), SERIES, &labels, &panels);
    Picture { name: format!("random-{}.svg", backing.name()), says, svg }
}

fn sequential(report: &Report, backing: Backing, patterns: &[Pattern]) -> Picture {
    let labels: Vec<_> = patterns.iter().map(|pattern| pattern.label()).collect();
    let cpu = |pattern: Pattern, sample: &Sample| {
        sample.server_us / f64::from(pattern.block_bytes) * f64::from(1 << 20)
    };
    let panels = [
        panel(report, backing, patterns, "GB/s (more is better)", |_, s| s.bytes_per_s / 1e9),
        panel(report, backing, patterns, "server CPU, µs per MiB (less is better)", cpu),
    ];
    let says = format!("Sequential I/O on {}", place(backing));
    let svg = bars((&says, &conditions(report)), SERIES, &labels, &panels);
    Picture { name: format!("sequential-{}.svg", backing.name()), says, svg }
}

/// File servers: rate and cost of each kind of load as shares of the peer's, and of a rate what a
/// server that does nothing reaches.
fn files(files: &Files, (name, title): (&str, &str), patterns: &[&str]) -> Picture {
    let value = |pattern: &str, server: &str, of: fn(&Sample) -> f64| {
        files.row(pattern, server)?.spread(of)
    };
    let share = |of: fn(&Sample) -> f64| {
        let groups = patterns.iter().map(|pattern| {
            let peer = value(pattern, GANESHA, of).map(|spread| spread.median);
            FILES.map(|(server, _)| {
                let peer = peer.filter(|peer| *peer > 0.0)?;
                let found = value(pattern, server, of)?;
                let [median, least, most] =
                    [found.median, found.least, found.most].map(|value| value / peer);
                Some(Spread { median, least, most })
            })
        });
        groups.collect()
    };
    let bounds: Vec<Option<f64>> = patterns
        .iter()
        .map(|pattern| {
            let peer = value(pattern, GANESHA, |s| s.iops).filter(|peer| peer.median > 0.0)?;
            Some(files.floor(pattern)? / peer.median)
        })
        .collect();
    let bounded =
        if bounds.iter().any(Option::is_some) { " · red: a server that does nothing" } else { "" };
    let panels = [
        Panel {
            title: "rate, of nfs-ganesha's (more is better)",
            groups: share(|s| s.iops),
            bounds,
        },
        Panel {
            title: "server CPU for each, of nfs-ganesha's (less is better)",
            groups: share(|s| s.server_us),
            bounds: Vec::new(),
        },
    ];
    let labels: Vec<[String; 2]> = patterns
        .iter()
        .map(|pattern| {
            let (work, count) = pattern.split_once('-').unwrap_or((pattern, ""));
            [work.to_owned(), format!("× {count}")]
        })
        .collect();
    let says = format!("{title} beside nfs-ganesha");
    let below = format!(
        "bars: median of {}; thin lines: least to most{bounded} · {} cores shared with the load, \
         loopback · {}",
        files.rounds, files.taken.machine.cores, files.taken.machine.date
    );
    let svg = bars((&says, &below), FILES, &labels, &panels);
    Picture { name: format!("{name}.svg"), says, svg }
}

/// Places of labels that keep their distance, from wishes; as many as there are wishes.
fn apart(wishes: &[f64], distance: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by(|a, b| wishes[*a].total_cmp(&wishes[*b]));
    let mut places = wishes.to_vec();
    for pair in order.windows(2) {
        places[pair[1]] = places[pair[1]].max(places[pair[0]] + distance);
    }
    places
}

/// Reads and writes over connections, beside each other. None where that was not measured.
fn connections(report: &Report) -> Option<Picture> {
    let panels = [("rr4k-32", "random reads"), ("rw4k-32", "random writes")];
    let names = |base: &str| {
        let base: Option<Pattern> = base.parse().ok();
        CONNECTIONS.map(|count| base.map(|base| base.over(count).to_string()).unwrap_or_default())
    };
    let value = |pattern: &str, server: &str| {
        report.row(Backing::Memory, pattern, server)?.spread(|sample| sample.iops)
    };
    let all = panels.iter().flat_map(|(base, _)| names(base));
    let spreads = all.flat_map(|name| SERIES.map(|(server, _)| value(&name, server)));
    let most = spreads.flatten().map(|spread| spread.most).fold(0.0, f64::max);
    value(&names(panels[0].0)[4], OURS)?;

    let says = "4 KiB random I/O over more connections to one volume".to_owned();
    let below = format!(
        "32 commands in flight on each connection · lines: median of {}, areas: least to most · \
         a file in memory · {}",
        report.rounds, report.machine.date
    );
    let height = HEAD + PANEL + 58.0;
    let mut drawing = Drawing::new(WIDTH, height, &says);
    head(&mut drawing, &says, &below);
    let width = WIDTH / 2.0 - LEFT - NAMES;
    for (column, (base, title)) in panels.iter().enumerate() {
        let left = LEFT + column as f64 * WIDTH / 2.0;
        let area = (left, left + width);
        let unit = axis(&mut drawing, HEAD, most, area);
        let style = strong(13.0, QUIET, Anchor::Start);
        drawing.text((left + EDGE - LEFT, HEAD - 14.0), style, &format!("IOPS, {title}"));
        let series = SERIES.map(|(server, _)| names(base).map(|name| value(&name, server)));
        lines(&mut drawing, &series, area, unit);
    }
    Some(Picture { name: "connections.svg".to_owned(), says, svg: drawing.finish() })
}

fn lines(
    drawing: &mut Drawing,
    series: &[[Option<Spread>; 5]; 3],
    (left, right): (f64, f64),
    unit: f64,
) {
    let foot = HEAD + PANEL;
    let inset = 18.0;
    let x = |at: usize| left + inset + (right - left - 2.0 * inset) * at as f64 / 4.0;
    for (at, count) in CONNECTIONS.iter().enumerate() {
        let style = quiet(12.0, Anchor::Middle);
        drawing.text((x(at), foot + 19.0), style, &count.to_string());
    }
    let style = quiet(12.0, Anchor::Middle);
    drawing.text((f64::midpoint(left, right), foot + 39.0), style, "connections");
    let mut ends = Vec::new();
    // Ours last: over the others.
    for (values, (name, colour)) in series.iter().zip(SERIES).rev() {
        let points = |of: fn(&Spread) -> f64| -> Vec<(f64, f64)> {
            let known = values.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?)));
            known.map(|(at, spread)| (x(at), foot - of(&spread) * unit)).collect()
        };
        let (middle, mut edge) = (points(|s| s.median), points(|s| s.most));
        edge.extend(points(|s| s.least).into_iter().rev());
        drawing.area(&edge, colour);
        drawing.curve(&middle, colour, 2.5);
        middle.iter().for_each(|point| drawing.dot(*point, colour));
        let value = values.iter().flatten().last().map(|spread| spread.median);
        if let Some((end, value)) = middle.last().zip(value) {
            ends.push((end.1, format!("{name} {}", mark(value)), colour));
        }
    }
    let wishes: Vec<f64> = ends.iter().map(|(y, ..)| *y).collect();
    for (y, (_, text, colour)) in apart(&wishes, 16.0).iter().zip(&ends) {
        // The grey of the peers is too pale for text.
        let colour = if *colour == SERIES[0].1 { SERIES[0].1 } else { QUIET };
        let bold = colour == SERIES[0].1;
        let style = Style { size: 12.0, colour, bold, anchor: Anchor::Start };
        drawing.text((right - inset + 10.0, y + 4.0), style, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::FLOORS;
    use crate::report::tests::{files as files_of, report};

    #[test]
    fn marks_are_short() {
        let wanted = [
            (0.0, "0"),
            (0.5, "0.5"),
            (3.449, "3.45"),
            (20.0, "20"),
            (44.04, "44"),
            (174_000.0, "174k"),
            (15_240.0, "15.2k"),
            (50_000.0, "50k"),
            (1500.0, "1.5k"),
        ];
        for (value, text) in wanted {
            assert_eq!(mark(value), text, "{value}");
        }
    }

    #[test]
    fn labels_keep_their_distance_and_their_order() {
        assert_eq!(apart(&[10.0, 12.0, 50.0], 16.0), [10.0, 26.0, 50.0]);
        assert_eq!(apart(&[12.0, 10.0, 11.0], 16.0), [42.0, 10.0, 26.0]);
        assert!(apart(&[], 16.0).is_empty());
    }

    #[test]
    fn a_picture_shows_each_server_and_misses_none_silently() {
        let report = report(&[
            ("rr4k-32", OURS, 100_000.0, 5.0),
            ("rr4k-32", TGT, 25_000.0, 21.0),
            ("sr1m-4", OURS, 1000.0, 90.0),
        ]);
        let pictures = draw(&report);
        let names: Vec<_> = pictures.iter().map(|picture| picture.name.as_str()).collect();
        assert_eq!(names, ["random-memory.svg", "sequential-memory.svg"]);
        let svg = &pictures[0].svg;
        for text in [">100k<", ">25k<", ">commonhold<", ">tgt<", ">nbdkit<", ">–<", "IOPS"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn small_files_have_a_picture_of_their_own_with_the_floor_where_it_was_measured() {
        let draw = |figures: &[_]| draw(&Report { files: Some(files_of(figures)), ..report(&[]) });
        let mut figures = vec![
            ("read4k-32", OURS, 200.0, 9.0),
            ("read4k-32", GANESHA, 100.0, 9.0),
            ("stat-1x8", RELAXED, 150.0, 9.0),
            ("stat-1x8", GANESHA, 100.0, 9.0),
        ];
        let older = draw(&figures);
        let names: Vec<_> = older.iter().map(|picture| picture.name.as_str()).collect();
        assert_eq!(names, ["files.svg", "files-small.svg"]);
        assert!(older.iter().all(|picture| !picture.svg.contains(BOUND)));
        figures.push(("stat-1x8", FLOORS[0], 300.0, 1.0));
        let [data, small] = &draw(&figures)[..] else { panic!("two pictures") };
        assert!(!data.svg.contains(BOUND) && !data.svg.contains("does nothing"), "{}", data.svg);
        assert!(small.svg.contains(BOUND) && small.svg.contains("does nothing"), "{}", small.svg);
        assert!(!small.svg.contains('↑'), "{}", small.svg);
        figures[4].2 = 9_000.0;
        let far = &draw(&figures)[1].svg;
        assert!(far.contains(">↑ 90<"), "a bound far above the bars is a number: {far}");
        assert!(small.svg.contains(">× 1x8<") && !small.svg.contains("NaN"), "{}", small.svg);
    }

    #[test]
    fn connections_are_drawn_once_all_are_measured() {
        let names = ["rr4k-32", "rr4k-32x2", "rr4k-32x4", "rr4k-32x8", "rr4k-32x16"];
        let figures: Vec<_> = names.iter().map(|name| (*name, OURS, 100_000.0, 5.0)).collect();
        assert!(connections(&report(&figures[..4])).is_none());
        let svg = connections(&report(&figures)).expect("a picture").svg;
        assert!(svg.contains(">commonhold 100k<") && svg.contains("<polyline"), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
