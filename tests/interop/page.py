"""Pages in Chromium: each is opened as a file at phone and desktop width, light and dark, folded and unfolded. It must
say something first, log no error, ask for nothing but itself, and fit the width; wide tables may scroll in their box."""

import argparse
import os
import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

WIDTHS = (360, 1280)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
# what reaches beyond the window although no box around it scrolls
BEYOND = """() => {
  const scrolls = e => { for (; e; e = e.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(e).overflowX)) return true; return false; };
  return [...document.querySelectorAll('body *')]
    .filter(e => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 0.5 && !scrolls(e))
    .map(e => `<${e.tagName.toLowerCase()} class="${e.getAttribute('class') || ''}"> ${e.textContent.trim().slice(0, 60)}`);
}"""
SMALLEST = """() => Math.min(...[...document.querySelectorAll('body *')]
  .filter(e => e.tagName !== 'title' && e.getClientRects().length && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(e => parseFloat(getComputedStyle(e).fontSize) * (e.ownerSVGElement ? Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b) : 1)))"""


def chromium():
    named = os.environ.get("OUTCROP_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or sys.exit("chromium is missing: install Debian's chromium or set OUTCROP_CHROMIUM")


def look(browser, path, width, scheme, first, picture):
    """Everything that is wrong with a page, one line each, and its background."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, faults, url = context.new_page(), [], path.absolute().as_uri()
    page.on("console", lambda message: faults.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("request", lambda request: request.url == url or faults.append(f"asked for {request.url}"))
    page.goto(url)
    text = page.inner_text("body").strip()
    if not text.startswith(first):
        faults.append(f"begins with {text[:80]!r}, not with {first!r}")
    if picture:
        page.screenshot(path=picture, full_page=True)
    for unfolded in (False, True):
        page.evaluate("open => document.querySelectorAll('details').forEach(d => d.open = open)", unfolded)
        size = page.evaluate("document.documentElement.scrollWidth")
        faults += [f"is {size} wide"] * (size > width) + [f"beyond the width: {what}" for what in page.evaluate(BEYOND)]
        smallest = page.evaluate(SMALLEST)
        if smallest < 8.5:
            faults.append(f"text of {smallest:.1f} pixels")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    context.close()
    return [f"{path.name}, {width} pixels, {scheme}: {fault}" for fault in faults], background


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="+", help="PAGE or PAGE::WHAT-IT-BEGINS-WITH")
    parser.add_argument("--pictures", type=pathlib.Path, help="folder for screenshots")
    arguments = parser.parse_args()
    faults, seen = [], 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for named in arguments.pages:
            path, _, first = named.partition("::")
            path = pathlib.Path(path)
            backgrounds = {}
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    picture = arguments.pictures and arguments.pictures / f"{path.stem}-{width}-{scheme}.png"
                    found, backgrounds[scheme] = look(browser, path, width, scheme, first, picture)
                    faults, seen = faults + found, seen + 1
            if backgrounds["light"] == backgrounds["dark"]:
                faults.append(f"{path.name}: light and dark have the same background {backgrounds['light']}")
        version = browser.version
        browser.close()
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(arguments.pages)} pages, {seen} views, no error, no request, nothing too wide (Chromium {version})")


if __name__ == "__main__":
    main()
