"""The console of `outcrop serve` in Chromium: a job is started through the API, its curve moves on the open page, the
page stops it, a model is deleted, the disk is freed. No page logs an error or asks another address, nothing is wider
than the window, and axe-core finds no serious violation, light and dark, at phone and desktop width. With credentials
nothing is seen before signing in; another origin's form is refused.

usage: console.py BINARY NODE_FOLDER [--pictures FOLDER]    NODE_FOLDER has axe-core"""

import argparse
import sys
import tempfile
from pathlib import Path

from page import BEYOND, FLAGS, WIDTHS, chromium
from playwright.sync_api import expect, sync_playwright
from service import Service, pairs, wait

TOKEN = "a-token-of-this-test"
LONG_NAME = "a-model-with-a-rather-long-name-as-scripts-give-them-0123456789"
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}
POINTS = "document.querySelector('#loss .s0 polyline')?.getAttribute('points') ?? ''"


class Eye:
    """A browser that takes note of all that is wrong."""

    def __init__(self, browser, address, axe, pictures):
        self.browser, self.address, self.axe, self.pictures = browser, address, axe, pictures
        self.faults, self.looks = [], 0

    def page(self, width=1280, scheme="light"):
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and self.faults.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: script: {error}"))
        page.on("request", lambda request: request.url.startswith((self.address, "data:"))
                or self.faults.append(f"{page.url}: asked for {request.url}"))
        return page

    def judge(self, page, name):
        """What axe-core and the width say of the page as it is."""
        self.looks += 1
        width, scheme = page.viewport_size["width"], "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
        where = f"{name}, {width} pixels, {scheme}"
        size = page.evaluate("document.documentElement.scrollWidth")
        self.faults += [f"{where}: is {size} wide"] * (size > width)
        self.faults += [f"{where}: beyond the width: {what}" for what in page.evaluate(BEYOND)]
        page.evaluate(self.axe)
        for found in page.evaluate("rules => axe.run(document, rules)", RULES)["violations"]:
            if found["impact"] in ("serious", "critical"):
                nodes = "; ".join(node["html"][:120] for node in found["nodes"][:3])
                self.faults.append(f"{where}: {found['impact']}: {found['help']}: {nodes}")
        if self.pictures:
            page.screenshot(path=self.pictures / f"{name}-{width}-{scheme}.png", full_page=True)

    def judge_all(self, paths):
        for name, path in paths.items():
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    page = self.page(width, scheme)
                    page.goto(self.address + path)
                    if name == "sweeps":
                        page.wait_for_timeout(300)
                    self.judge(page, name)
                    page.context.close()


def until(page, expression, argument=None):
    """Waits until an expression of the page is true. `wait_for_function` would need a policy that lets pages evaluate text."""
    for _ in range(1800):
        if page.evaluate(expression, argument):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{expression}: waited too long at {page.url}: {page.inner_text('main')[:2000]}")


def create(service, name, model, **settings):
    """Makes a job through the API; gives its id."""
    answer = service.client().create_model_customization_job(
        jobName=name, customModelName=model, customizationType="FINE_TUNING",
        roleArn="arn:aws:iam::123456789012:role/R", baseModelIdentifier="amazon.titan-text-express-v1",
        trainingDataConfig={"s3Uri": "s3://data/train.jsonl"}, outputDataConfig={"s3Uri": "s3://data/out/"},
        validationDataConfig={"validators": [{"s3Uri": "s3://outcrop-examples/sentiment/validation.jsonl"}]},
        hyperParameters=settings)
    return answer["jobArn"].rsplit("/", 1)[1]


def status(service, name):
    return service.client().get_model_customization_job(jobIdentifier=name)["status"]


def watch_and_stop(service, eye):
    """A job that runs: its row and its curve move on an open page, the keyboard stops it."""
    page = eye.page()
    page.goto(eye.address + "/")
    assert page.url.endswith("/console"), page.url
    expect(page.locator("#rows")).to_contain_text("No job yet")
    job = create(service, "watched", "never", trainable="all", batchSize="1", epochCount="10", learningRate="0.0003",
                 generalData="none")
    link = page.get_by_role("link", name="watched")
    link.wait_for(timeout=60_000)  # put in by the stream, without a reload
    until(page, "document.querySelector('#rows').textContent.includes('left')")
    link.focus()
    page.wait_for_timeout(1500)  # the rows are put in anew meanwhile
    assert page.evaluate("document.activeElement.textContent") == "watched", "the focus stays where it is"
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/console/jobs/{job}")
    until(page, f"({POINTS}).split(' ').length > 5")
    before, step = page.evaluate(POINTS), page.inner_text("#facts")
    until(page, f"before => ({POINTS}) !== before", before)
    until(page, "before => document.querySelector('#facts').innerText !== before", step)
    facts = page.inner_text("#facts")
    for part in ("tokens/s", "in use", "time left", "so far at 0.5 EUR an hour", "learning rate"):
        assert part in facts, f"{part}: {facts}"
    assert "the head" not in page.inner_text("#plan") and "all " in page.inner_text("#plan"), page.inner_text("#plan")
    assert "planned:" in page.inner_text("#log") and "pebble" in page.inner_text("#head")
    paths = {"running": f"/console/jobs/{job}"}
    eye.judge_all(paths)
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#head .chip")).to_have_text("stopped", timeout=120_000)
    assert status(service, "watched") == "Stopped"
    assert page.get_by_role("button", name="Stop").count() == 0
    page.context.close()
    return job


def delete_a_model(service, eye):
    """A job to its end; its report; its model is deleted on the page of models."""
    job = create(service, "short", LONG_NAME, epochCount="1", batchSize="8", learningRate="0.001", maxSteps="20")
    wait(lambda: status(service, "short") == "Completed")
    page = eye.page()
    page.goto(f"{eye.address}/console/jobs/{job}")
    headline = page.inner_text("#head .lead")
    page.get_by_role("link", name="Report").click()
    assert page.inner_text("h1").replace("\n", " ").startswith(headline[:20]), headline
    eye.judge_all({"jobs": "/console", "job": f"/console/jobs/{job}", "models": "/console/models",
                   "sweeps": "/console/sweeps", "disk": "/console/disk", "missing": "/console/nothing"})
    eye.faults[:] = [fault for fault in eye.faults if "console/nothing" not in fault]  # its 404 is logged, as it should
    page.goto(eye.address + "/console/models")
    assert LONG_NAME in page.inner_text("main") and "MB" in page.inner_text("main")
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name=f"Delete {LONG_NAME}").click()
    expect(page.locator("main")).to_contain_text("No custom model yet")
    assert service.client().list_custom_models()["modelSummaries"] == []
    page.goto(eye.address + "/console/disk")
    assert "of it can go" in page.inner_text("main")
    boxes = page.locator("input[type=checkbox]").count()
    assert boxes > 0 and (service.home / "cache/features").exists()
    page.get_by_role("button", name="Remove what is checked").click()
    expect(page.get_by_role("status").first).to_contain_text(f"{boxes} removed")
    assert not any((service.home / "cache/features").iterdir())
    page.context.close()


def another_origin(service, eye, job):
    """A page from elsewhere sends the form; the job is as it was, and the answer is a refusal."""
    context = eye.browser.new_context()
    page = context.new_page()
    action = f"{eye.address}/console/disk/prune"
    page.goto(f"data:text/html,<form method=post action='{action}'><button>go</button></form>")
    with page.expect_navigation() as answer:
        page.get_by_role("button").click()
    assert answer.value.status == 403, answer.value.status
    context.close()


def sign_in(binary, folder, eye_of):
    credentials = folder / "credentials"
    credentials.write_text(f"aws_bearer_token_bedrock = {TOKEN}\n")
    credentials.chmod(0o600)
    with Service(binary, folder, "--credentials", str(credentials)) as service:
        eye = eye_of(service.address)
        eye.judge_all({"sign-in": "/console"})
        page = eye.page()
        page.goto(service.address + "/console/models")
        assert page.url.endswith("/console/sign-in"), page.url
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not one of this service")
        page.get_by_label("Bearer token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console")
        expect(page.locator("#rows")).to_contain_text("No job yet")
        assert page.evaluate("document.cookie") == "", "no script reads the cookie"
        page.get_by_role("button", name="Sign out").click()
        page.goto(service.address + "/console")
        assert page.url.endswith("/console/sign-in"), page.url
        page.context.close()
    return eye


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("node", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for screenshots")
    arguments = parser.parse_args()
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    axe = (arguments.node / "node_modules/axe-core/axe.min.js").read_text()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)

        def eye_of(address):
            return Eye(browser, address, axe, arguments.pictures)

        first, second = Path(folder) / "open", Path(folder) / "guarded"
        first.mkdir()
        second.mkdir()
        with Service(arguments.binary, first, "--price-per-hour", "0.5 EUR") as service:
            eye = eye_of(service.address)
            storage = service.client("s3")
            storage.create_bucket(Bucket="data")
            storage.put_object(Bucket="data", Key="train.jsonl", Body=pairs(480).encode())
            job = watch_and_stop(service, eye)
            delete_a_model(service, eye)
            another_origin(service, eye, job)
        guarded = sign_in(arguments.binary, second, eye_of)
        version = browser.version
        browser.close()
    if faults := eye.faults + guarded.faults:
        sys.exit("\n".join(faults))
    print(f"watched, stopped and deleted; {eye.looks + guarded.looks} looks without a serious violation (Chromium {version})")


if __name__ == "__main__":
    main()
