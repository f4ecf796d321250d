//! The page in a real browser.
//!
//! Not part of `make test`, since it needs a Chromium: `make page`. With `SPEIL_SCREENSHOTS=DIR` the
//! screenshots stay there.

mod states;

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::browser::Browser;
use crate::support::command::{Background, eventually, holds_within};
use crate::support::stand::{Stand, free_port};

const TOKEN: &str = "a token for this test";

/// Screens: a phone, a tablet, a desktop.
const SCREENS: [(&str, u32, u32); 3] = [("phone", 360, 780), ("tablet", 820, 1180), ("desktop", 1440, 900)];

/// Smallest ratio of the lightness of text and what is behind it (WCAG 2.2 AA).
const CONTRAST: &str = "
(() => {
  const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  let worst = [99, ''];
  for (const node of document.querySelectorAll('body *')) {
    const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!text || !node.offsetParent || node.closest('svg,script,.skip')) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, node.textContent.slice(0, 40)];
  }
  return worst;
})()";

/// A daemon with one live target and one that refuses, a directory on the first in which nothing can be
/// made, and a browser that shows its page.
struct Shown {
    stand: Stand,
    daemon: Background,
    browser: Browser,
    wall: PathBuf,
}

impl Shown {
    fn new() -> Self {
        let stand = Stand::new();
        let port = free_port();
        let settings = format!("http = {{ listen = \"127.0.0.1:{port}\", token = \"{TOKEN}\" }}");
        for n in 0..200 {
            fs::write(stand.source().join(format!("{n}.jpg")), vec![7; 5000]).unwrap();
        }
        fs::create_dir_all(stand.target("second").join(".speil")).unwrap();
        fs::write(stand.target("second").join(".speil/refuse"), "promoted on Friday").unwrap();
        let daemon = stand.start(&["standby", "second"], "", &settings);
        eventually("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let mut browser = Browser::start();
        browser.screen(1440, 900, false);
        browser.open(&format!("http://127.0.0.1:{port}/"));
        let wall = stand.target("standby").join("wall");
        Self { stand, daemon, browser, wall }
    }

    fn wait_for(&mut self, what: &str, expression: &str) {
        let browser = &mut self.browser;
        let expression = format!("document.body !== null && ({expression})");
        let held = holds_within(Duration::from_secs(30), || browser.value(&expression) == true);
        let text = browser.value("document.body.innerText");
        assert!(held, "never came: {what}; the page says {text}");
    }

    fn wait_for_text(&mut self, text: &str) {
        self.wait_for(text, &format!("document.body.innerText.includes({text:?})"));
    }

    fn has_button(text: &str) -> String {
        format!(
            "[...document.querySelectorAll('button')].some((b) => b.textContent === '{text}' && b.offsetParent)"
        )
    }

    fn click(&mut self, text: &str) {
        self.browser.value(&format!(
            "[...document.querySelectorAll('button')].find((b) => b.textContent === '{text}' && b.offsetParent).click()"
        ));
    }

    fn enter(&mut self, token: &str) {
        self.browser.value(&format!(
            "document.getElementById('token').value = '{token}'; document.getElementById('login').requestSubmit()"
        ));
    }

    fn make_wall(&self, on: bool) {
        let flag = if on { "+i" } else { "-i" };
        let done = std::process::Command::new("chattr").arg(flag).arg(&self.wall).status().expect("chattr");
        assert!(done.success(), "the scratch filesystem knows no immutable directories");
    }
}

/// What happens shows without loading the page again, and as text.
fn shows_what_happens(shown: &mut Shown) {
    shown.wait_for_text("live for");
    shown.wait_for_text("promoted on Friday");
    let headline = "document.getElementById('headline').textContent";
    shown.wait_for("the verdict", &format!("{headline}.startsWith('1 of 2 targets is up to date')"));
    shown.wait_for_text("Remove .speil/refuse on the target");
    shown.wait_for("the title", "document.title.startsWith('second: down')");
    let name = "<img src=x onerror=alert(1)>\u{1b}[31m.jpg";
    fs::create_dir(shown.stand.source().join("wall")).unwrap();
    eventually("the directory is there", || shown.wall.is_dir());
    shown.make_wall(true);
    fs::write(shown.stand.source().join("wall").join(name), b"x").unwrap();
    shown.wait_for(
        "the problem",
        "document.getElementById('problems').innerText.includes('<img src=x onerror')",
    );
    assert_eq!(shown.browser.value("document.querySelectorAll('img').length"), 0);
    assert_eq!(shown.browser.value("document.body.innerText.includes('\\u001b')"), false);
    for n in 0..150 {
        fs::remove_file(shown.stand.source().join(format!("{n}.jpg"))).unwrap();
    }
    shown.wait_for_text("150 deletes held");
    shown.wait_for_text("\"0.jpg\"");
    assert_eq!(shown.browser.value(&Shown::has_button("Pause")), false, "without the token it is read-only");
    let label = shown.browser.value("document.querySelector('.lag svg').getAttribute('aria-label')");
    assert!(label.as_str().unwrap().starts_with("Lag over the last 60 s: now"), "{label}");
}

/// No screen scrolls sideways, and every text can be read on it.
fn fits_every_screen(shown: &mut Shown) {
    let shots =
        std::env::var_os("SPEIL_SCREENSHOTS").map_or_else(|| shown.stand.path("shots"), PathBuf::from);
    fs::create_dir_all(&shots).unwrap();
    for (screen, width, height) in SCREENS {
        for dark in [false, true] {
            shown.browser.screen(width, height, dark);
            shown.wait_for("a layout", &format!("innerWidth === {width}"));
            let wide = shown.browser.value("document.documentElement.scrollWidth - innerWidth");
            assert_eq!(wide, 0, "{screen}: the page is wider than the screen");
            assert_readable(&mut shown.browser, &format!("{screen} dark {dark}"));
            let scheme = if dark { "dark" } else { "light" };
            shown.browser.screenshot(&shots.join(format!("{screen}-{scheme}.png")));
        }
    }
}

/// Every text stands out from what is behind it, and axe-core, where `SPEIL_AXE` names its `axe.min.js`, finds
/// nothing.
fn assert_readable(browser: &mut Browser, what: &str) {
    let contrast = browser.value(CONTRAST);
    assert!(contrast[0].as_f64().unwrap() >= 4.5, "{what}: {contrast}");
    let Some(axe) = std::env::var_os("SPEIL_AXE") else { return };
    browser.value(&(fs::read_to_string(axe).expect("SPEIL_AXE") + "; 1"));
    let found = browser.value(
        "axe.run(document).then((all) => all.violations.map((it) => [it.id, it.nodes.map((node) => node.html)]))",
    );
    assert_eq!(found, serde_json::json!([]), "{what}");
}

/// By keyboard the skip link comes first, then the way to the token.
fn works_by_keyboard(shown: &mut Shown) {
    shown.browser.value("document.activeElement.blur()");
    shown.browser.tab();
    assert_eq!(shown.browser.value("document.activeElement.className"), "skip");
    shown.browser.tab();
    assert_eq!(shown.browser.value("document.activeElement.id"), "sign-in");
}

/// A wrong token is refused, the right one acts.
fn acts_with_the_token(shown: &mut Shown) {
    shown.click("Sign in");
    shown.enter("another token, not it");
    shown.wait_for("the buttons", &Shown::has_button("Pause"));
    shown.click("Pause");
    shown.wait_for("the refusal", "document.getElementById('done').textContent.includes('wrong')");
    let refused = shown.browser.complaints();
    assert!(refused.iter().all(|text| text.contains("401")), "{refused:?}");
    shown.wait_for("a token that is wrong is forgotten", &Shown::has_button("Sign in"));
    shown.click("Sign in");
    shown.enter(TOKEN);
    shown.wait_for("the decision", &Shown::has_button("Carry out…"));
    shown.click("Carry out…");
    shown.wait_for("the question", &Shown::has_button("Carry out 150 deletes"));
    shown.click("Carry out 150 deletes");
    let first = shown.stand.target("standby").join("0.jpg");
    eventually("what was approved goes", || !first.exists());
    shown.click("Pause");
    shown.wait_for_text("paused");
    shown.click("Resume");
    shown.wait_for("it goes on", &Shown::has_button("Pause"));
}

#[test]
#[ignore = "needs Chromium: make page"]
fn the_page_shows_targets_live_on_any_screen_and_acts_with_the_token() {
    let mut shown = Shown::new();
    shows_what_happens(&mut shown);
    fits_every_screen(&mut shown);
    works_by_keyboard(&mut shown);
    acts_with_the_token(&mut shown);
    shown.make_wall(false);
    shown.wait_for("the solved problem goes", "document.getElementById('problem-section').hidden");
    let complaints = shown.browser.complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
    shown.daemon.signal(rustix::process::Signal::TERM);
    shown.wait_for("the end", "document.getElementById('headline').textContent.startsWith('No connection')");
}
