//! A drawing as text: only what our pictures need.

use std::fmt::Write;

/// Fonts that every system has one of.
const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', \
    'Liberation Sans', Arial, sans-serif";

/// Where a text ends up about its point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) size: f64,
    pub(crate) colour: &'static str,
    pub(crate) bold: bool,
    pub(crate) anchor: Anchor,
}

/// A picture in the making; units are pixels at its own size.
#[derive(Debug)]
pub(crate) struct Drawing {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

/// Text for an element's content.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A coordinate with at most two digits after the point.
fn at(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Drawing {
    /// An opaque card, so that it reads the same on a dark page. `title` is for who cannot see it.
    pub(crate) fn new(width: f64, height: f64, title: &str) -> Self {
        let mut drawing = Self { width, height, title: escape(title), body: String::new() };
        let (w, h) = (at(width - 1.0), at(height - 1.0));
        drawing.push(format_args!(
            "<rect x=\"0.5\" y=\"0.5\" width=\"{w}\" height=\"{h}\" rx=\"8\" fill=\"#ffffff\" \
             stroke=\"#d1d9e0\"/>"
        ));
        drawing
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// A bar with its upper corners a little rounded.
    pub(crate) fn bar(&mut self, (x, y): (f64, f64), width: f64, height: f64, colour: &str) {
        let round = 2.0_f64.min(height.max(0.0)).min(width / 2.0);
        let (left, right, top, foot) = (x, x + width, y, y + height);
        self.push(format_args!(
            "<path d=\"M{} {}V{}Q{} {} {} {}H{}Q{} {} {} {}V{}Z\" fill=\"{colour}\"/>",
            at(left),
            at(foot),
            at(top + round),
            at(left),
            at(top),
            at(left + round),
            at(top),
            at(right - round),
            at(right),
            at(top),
            at(right),
            at(top + round),
            at(foot)
        ));
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        self.push(format_args!(
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{colour}\" \
             stroke-width=\"{}\"/>",
            at(from.0),
            at(from.1),
            at(to.0),
            at(to.1),
            at(width)
        ));
    }

    fn points(points: &[(f64, f64)]) -> String {
        points.iter().map(|(x, y)| format!("{},{}", at(*x), at(*y))).collect::<Vec<_>>().join(" ")
    }

    /// A line through points.
    pub(crate) fn curve(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        self.push(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\"/>",
            Self::points(points),
            at(width)
        ));
    }

    /// A pale area, for a spread.
    pub(crate) fn area(&mut self, points: &[(f64, f64)], colour: &str) {
        let list = Self::points(points);
        self.push(format_args!("<polygon points=\"{list}\" fill=\"{colour}\" opacity=\"0.14\"/>"));
    }

    pub(crate) fn dot(&mut self, (x, y): (f64, f64), colour: &str) {
        self.push(format_args!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"4\" fill=\"{colour}\" stroke=\"#ffffff\" \
             stroke-width=\"1.5\"/>",
            at(x),
            at(y)
        ));
    }

    pub(crate) fn text(&mut self, (x, y): (f64, f64), style: Style, text: &str) {
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if style.bold { " font-weight=\"600\"" } else { "" };
        self.push(format_args!(
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\" fill=\"{}\" text-anchor=\"{anchor}\"\
             {weight}>{}</text>",
            at(x),
            at(y),
            at(style.size),
            style.colour,
            escape(text)
        ));
    }

    pub(crate) fn finish(self) -> String {
        let Self { width, height, title, body } = self;
        let (w, h) = (at(width), at(height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" \
             viewBox=\"0 0 {w} {h}\" role=\"img\" font-family=\"{FONT}\">\n<title>{title}</title>\n\
             {body}</svg>\n"
        )
    }
}

/// The step between the marks of an axis: 1, 2 or 5 times a power of ten, so that at most
/// `marks` steps reach `most`.
pub(crate) fn step(most: f64, marks: f64) -> f64 {
    let least = (most / marks).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(least.log10().floor());
    let fits = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power >= least * 0.999_999);
    fits.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_reach_the_top() {
        for (most, wanted) in [(174e3, 50e3), (9.0, 2.0), (1.0, 0.2), (5.0, 1.0), (100.0, 20.0)] {
            let found = step(most, 5.0);
            assert!((found / wanted - 1.0).abs() < 1e-9, "{most}: {found}");
            assert!(found * 5.0 >= most * 0.999);
        }
        assert!(step(0.0, 5.0) > 0.0, "an empty axis has a step");
    }

    #[test]
    fn a_drawing_is_well_formed_whatever_the_text() {
        let mut drawing = Drawing::new(100.0, 50.0, "a < b");
        let style = Style { size: 12.0, colour: "#000", bold: true, anchor: Anchor::End };
        drawing.text((1.005, 2.0), style, "R&D <x>");
        drawing.bar((1.0, 2.0), 3.0, 0.0, "#fff");
        drawing.area(&[(0.0, 0.0), (1.0, 1.0)], "#123456");
        let text = drawing.finish();
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert!(text.contains("<title>a &lt; b</title>") && text.contains("R&amp;D &lt;x&gt;"));
        assert_eq!(text.matches("<text").count(), text.matches("</text>").count());
        assert!(!text.contains("NaN"));
        assert_eq!((at(1.0), at(0.5), at(120.0)), ("1".into(), "0.5".into(), "120".into()));
    }
}
