"""docs/cli.md is the commands' own word."""

from autoscaler.cli.reference import COMMAND, PAGE, page


def test_the_page_is_written_from_the_commands() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"run `{COMMAND}`"
    for heading in ("## status\n", "## policy set FILE\n", "## validate [POLICY]\n"):
        assert heading in page()
