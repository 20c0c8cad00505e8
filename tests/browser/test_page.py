"""What one sees on the page, in a real Chromium; the server is told by the test what the counts are."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_server import LIVE, NOON, PageServer, a_day, found, minute
from playwright.sync_api import Page, expect

from unique_users.aggregation.counts import Estimate
from unique_users.dashboard.health import Kind
from unique_users.event_time.buckets import Bucket

pytestmark = pytest.mark.slow

Open = Callable[..., Page]
UNKNOWN = "\N{EN DASH}"


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as server:
        yield server


def text(page: Page, name: str) -> str:
    return (page.locator(f"#{name}").text_content() or "").strip()


def test_the_newest_numbers_each_say_their_window(server: PageServer, opened: Open) -> None:
    server.say({**a_day(), minute(-1): found(930, 912), minute(-2): found(900, 900), minute(-1_441): found(1_000)})
    page = opened(server.address)
    expect(page.locator("#closed")).to_have_text("930")
    assert text(page, "closed-window") == "11:59 to 12:00 UTC"
    assert text(page, "closed-late") == "912 at its end, +18 since"
    assert text(page, "open") == "404"
    assert text(page, "open-window") == "12:00 to 12:01 UTC, still open"
    assert (text(page, "before"), text(page, "before-change")) == ("900", "+3.3 % since then")
    assert (text(page, "earlier"), text(page, "earlier-change")) == ("1,000", "\N{MINUS SIGN}7.0 % since then")
    assert text(page, "earlier-window") == "27 Nov 2026, 11:59 to 12:00 UTC"


def test_the_open_minute_grows_and_closes(server: PageServer, opened: Open) -> None:
    server.say(a_day(100))
    page = opened(server.address)
    expect(page.locator("#open")).to_have_text("100")
    server.say({minute(0): found(250)})
    expect(page.locator("#open")).to_have_text("250")
    server.say({minute(0): found(960), minute(1): found(3)}, LIVE._replace(newest_frame=NOON + 61))
    expect(page.locator("#closed")).to_have_text("960")
    expect(page.locator("#open-window")).to_have_text("12:01 to 12:02 UTC, still open")
    expect(page.locator("#spoken")).to_have_text("12:00 to 12:01 UTC: 960 unique users")
    assert text(page, "closed-late") == "What it had at its end is not known yet"


def test_a_late_frame_changes_a_closed_minute_and_both_values_are_shown(server: PageServer, opened: Open) -> None:
    server.say({**a_day(), minute(-1): found(912, 912)})
    page = opened(server.address)
    expect(page.locator("#closed-late")).to_have_text("912 at its end, none since")
    server.say({minute(-1): found(915, 912)})
    expect(page.locator("#closed")).to_have_text("915")
    expect(page.locator("#closed-late")).to_have_text("912 at its end, +3 since")


def test_what_is_not_known_and_not_whole_says_so(server: PageServer, opened: Open) -> None:
    """An end count of the version before is not known, which is not zero."""
    server.say({**a_day(), minute(-1): found(912, None, "state_lost"), minute(-5): found(900)})
    page = opened(server.address)
    reason = "a counter's state was lost: maybe too low"
    expect(page.locator("#closed-window")).to_have_text(f"11:59 to 12:00 UTC, not whole: {reason}")
    page.locator("#as-table summary").click()
    rows = page.locator("#rows tr")
    expect(rows.nth(1)).to_have_text(f"28 Nov 2026, 11:59 UTC28 Nov 2026, 12:00 UTC912not knownnot whole: {reason}")
    expect(rows.nth(5)).to_contain_text("900not known")
    assert page.locator("#legend-mark").is_visible()


def test_an_estimate_shows_its_bounds(opened: Open) -> None:
    with PageServer(intervals=["minute", "day"]) as server:
        day = NOON // 86_400 * 86_400
        days = {Bucket("day", day - 86_400): found(Estimate(5_000, 4_900, 5_100)), Bucket("day", day): found(100)}
        server.say({minute(0): found(4), **days}, since=0)
        page = opened(f"{server.address}?interval=day")
        expect(page.locator("#closed")).to_have_text("5,000")
        assert text(page, "closed-late") == "An estimate, between 4,900 and 5,100"
        page.focus("#chart")
        page.keyboard.press("Home")
        said = "27 Nov 2026: 5,000 unique users; an estimate, between 4,900 and 5,100"
        expect(page.locator("#readout")).to_contain_text(said)
        assert page.locator("#legend-estimate").is_visible()


@pytest.mark.parametrize(
    ("kind", "since", "said", "sign"),
    [
        (Kind.LIVE, None, "Live, 1,000 frames per second", "●"),
        (Kind.CATCHING_UP, None, "Catching up: 42 wait to be counted, 0 s behind", "»"),
        (Kind.IDLE, NOON - 53, "No new frames since 11:59:07 UTC", "○"),
        (Kind.BUCKETER_SILENT, NOON - 53, "Bucketer silent since 11:59:07 UTC: 12 frames wait", "✕"),
        (Kind.COUNTER_SILENT, NOON - 53, "Counter silent since 11:59:07 UTC: 30 records wait", "✕"),
        (Kind.BROKER_SILENT, NOON - 53, "Kafka broker silent since 11:59:07 UTC", "✕"),
        (Kind.NO_TOPIC, None, "Waiting for the topic feed, which Kafka does not have", "○"),
    ],
)
def test_the_state_line_has_words_and_a_sign_for_each_state(
    server: PageServer, opened: Open, kind: Kind, since: int | None, said: str, sign: str
) -> None:
    server.say(a_day(), LIVE._replace(kind=kind, since=since, missing=("feed",)))
    page = opened(server.address)
    expect(page.locator("#state-text")).to_have_text(said)
    shown = page.evaluate("getComputedStyle(document.querySelector('.sign'), '::before').content")
    assert json.loads(shown) == sign
    assert (text(page, "rate"), text(page, "waiting"), text(page, "rejected")) == ("1,000", "42", "1,234")
    assert text(page, "rejected-detail") == "of 1,000,000 frames read: late 1,200, bad json 34"


def test_all_of_the_view_stands_in_the_address(opened: Open) -> None:
    with PageServer(intervals=["minute", "hour"], zone="Europe/Berlin") as server:
        server.say({**a_day(), Bucket("hour", NOON): found(9_000), Bucket("hour", NOON - 3_600): found(20_000)})
        page = opened(server.address)
        expect(page.locator("#closed")).not_to_have_text(UNKNOWN)
        page.select_option("#zone", "Europe/Berlin")
        expect(page.locator("#closed-window")).to_have_text("12:59 to 13:00 CET")
        page.select_option("#last", "24h")
        page.select_option("#interval", "hour")
        expect(page.locator("#closed")).to_have_text("20,000")
        assert "interval=hour" in page.url
        assert "last=24h" in page.url
        other = opened(page.url)
        expect(other.locator("#closed")).to_have_text("20,000")
        assert other.locator("#zone").input_value() == "Europe/Berlin"
        assert other.locator("#last").input_value() == "24h"


def test_a_range_of_ones_own_is_read_from_the_topic_if_it_is_older(server: PageServer, opened: Open) -> None:
    server.say(a_day())
    page = opened(server.address)
    expect(page.locator("#closed")).not_to_have_text(UNKNOWN)
    server.follower.older = {Bucket("minute", minute(-5_000).start): found(77, 70)}
    page.select_option("#last", "other")
    start = datetime.fromtimestamp(minute(-5_010).start, UTC)
    page.fill("#from", start.strftime("%Y-%m-%dT%H:%M"))
    page.fill("#to", datetime.fromtimestamp(minute(-4_990).start, UTC).strftime("%Y-%m-%dT%H:%M"))
    page.get_by_role("button", name="Show").click()
    page.focus("#chart")
    expect(page.locator("#chart")).to_have_attribute("aria-valuemax", "0")
    page.keyboard.press("End")
    expect(page.locator("#readout")).to_contain_text("77 unique users; 70 at its end, +7 since")
    assert f"from={start:%Y-%m-%dT%H}%3A" in page.url
    assert [(asked.start, asked.end) for asked in server.follower.asked] == [
        (minute(-5_010).start, minute(-4_990).start)
    ]


def test_everything_works_by_keyboard_alone(server: PageServer, opened: Open) -> None:
    server.say({**a_day(), minute(-1): found(930, 912), minute(-2): found(900, 900)})
    page = opened(server.address)
    expect(page.locator("#closed")).to_have_text("930")
    visited = []
    for _ in range(12):
        page.keyboard.press("Tab")
        visited.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if visited[-1] == "chart":
            break
    assert visited == ["last", "zone", "chart"]
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    said = "28 Nov 2026, 11:59 to 12:00 UTC: 930 unique users; 912 at its end, +18 since"
    expect(page.locator("#readout")).to_have_text(said)
    assert page.locator("#chart").get_attribute("aria-valuetext") == said
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#readout")).to_contain_text("11:58 to 11:59 UTC: 900 unique users; 900 at its end, none since")
    page.keyboard.press("Home")
    assert page.locator("#chart").get_attribute("aria-valuenow") == "0"
    page.keyboard.press("Escape")
    assert text(page, "readout") == ""
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#rows tr").first).to_contain_text("still open")


def test_the_mouse_reads_the_chart_too(server: PageServer, opened: Open) -> None:
    server.say(a_day())
    page = opened(server.address)
    expect(page.locator("#closed")).not_to_have_text(UNKNOWN)
    page.hover("#chart .u-over", position={"x": 300, "y": 100})
    expect(page.locator("#readout")).to_contain_text("unique users")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_is_cut_off(
    server: PageServer, opened: Open, pictures: Path, width: int, scheme: str
) -> None:
    server.say({**a_day(), minute(-1): found(930, 912)})
    page = opened(server.address, width, scheme)
    expect(page.locator("#closed")).to_have_text("930")
    page.locator("#as-table summary").click()
    expect(page.locator("#rows tr").first).to_be_visible()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#as-table summary").click()
    page.screenshot(path=pictures / f"page-{width}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("kind", [Kind.BUCKETER_SILENT, Kind.CATCHING_UP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_when_something_is_wrong(server: PageServer, opened: Open, kind: Kind, scheme: str) -> None:
    server.say(a_day(), LIVE._replace(kind=kind, since=NOON))
    page = opened(server.address, scheme=scheme)
    expect(page.locator("#state")).to_have_attribute("data-kind", kind.value)
    assert Axe().run(page).violations_count == 0


def test_a_monitor_on_the_wall_shows_no_controls(server: PageServer, opened: Open, pictures: Path) -> None:
    server.say({**a_day(), minute(-1): found(930, 912)})
    page = opened(f"{server.address}?kiosk", 1920, "dark")
    expect(page.locator("#closed")).to_have_text("930")
    for hidden in ("#controls", "footer", "#as-table"):
        expect(page.locator(hidden)).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    page.screenshot(path=pictures / "kiosk.png")


def test_nothing_moves_for_who_does_not_want_that(server: PageServer, opened: Open) -> None:
    server.say(a_day())
    page = opened(server.address, reduced_motion="reduce")
    expect(page.locator("#state-text")).to_contain_text("Live")
    assert page.evaluate("document.getAnimations().length") == 0


def test_twelve_tabs_are_all_live(server: PageServer, opened: Open) -> None:
    server.say(a_day(1))
    first = opened(server.address)
    pages = [first] + [first.context.new_page() for _ in range(11)]
    for page in pages[1:]:
        page.goto(server.address)
    for page in pages:
        expect(page.locator("#open")).to_have_text("1")
    server.say({minute(0): found(2)})
    for page in pages:
        expect(page.locator("#open")).to_have_text("2")


def test_a_page_says_that_it_lost_its_server_and_comes_back_by_itself(opened: Open) -> None:
    with PageServer() as server:
        server.say(a_day(5))
        page = opened(server.address)
        expect(page.locator("#open")).to_have_text("5")
        port = server.port
    expect(page.locator("#state-text")).to_contain_text("This page has lost its server since")
    with PageServer(at=port) as server:
        server.say(a_day(6))
        expect(page.locator("#open")).to_have_text("6", timeout=30_000)
        expect(page.locator("#state-text")).to_contain_text("Live")


def test_before_the_counts_are_read_the_page_says_so(server: PageServer, opened: Open) -> None:
    server.say({}, LIVE._replace(kind=Kind.STARTING), complete=False)
    page = opened(server.address)
    expect(page.locator(".nothing")).to_have_text("Reading the counts …")
    server.say(a_day(3), complete=False)
    expect(page.locator("#open")).to_have_text("3")
    server.say(a_day(3))
    expect(page.locator(".nothing")).to_be_hidden()


def test_the_token_is_asked_for_and_remembered(opened: Open) -> None:
    with PageServer(token="correct horse battery") as server:
        server.say(a_day(5))
        page = opened(server.address)
        page.fill("#token", "wrong")
        page.get_by_role("button").click()
        expect(page.locator("#trouble")).to_contain_text("This is not the token")
        assert Axe().run(page).violations_count == 0
        page.fill("#token", "correct horse battery")
        page.get_by_role("button").click()
        expect(page.locator("#open")).to_have_text("5")
        page.reload()
        expect(page.locator("#open")).to_have_text("5")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert "correct" not in cookie["value"]


def test_a_prefix_works_with_the_same_files(opened: Open) -> None:
    with PageServer(prefix="/counts/users") as server:
        server.say(a_day(5))
        for path in ("counts/users", "counts/users/", ""):  # the last one as a proxy asks that strips the prefix
            page = opened(f"{server.address}{path}")
            expect(page.locator("#open")).to_have_text("5")
            href = page.locator("#csv").evaluate("link => link.href")
            assert href.startswith(page.url.split("?")[0] + "api/counts?")
