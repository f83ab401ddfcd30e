"""What people see: a line for a value, a table on a terminal, and in a pipe plain rows with tabs."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

NAME_WIDTH = 16


def console() -> Console:
    """Standard output, as wide as the terminal."""
    return Console(highlight=False, markup=False)


def line(console: Console, name: str, value: str, *, style: str = "default") -> None:
    """One value with its name; on a terminal its further lines begin below the first."""
    if not console.is_terminal:
        console.file.write(f"{name:<{NAME_WIDTH}} {' '.join(value.split())}\n")
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=NAME_WIDTH, style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(name, Text(value, style=style))
    console.print(grid)


def table(
    console: Console, title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, empty: str = ""
) -> None:
    """Rows under a title; in a pipe each begins with it. Without rows: `empty`, or nothing."""
    if not rows:
        if empty:
            line(console, title, empty)
        return
    if not console.is_terminal:
        for row in rows:
            # Not console.print: it turns tabs into spaces.
            console.file.write("\t".join(" ".join(field.split()) for field in (title, *row)) + "\n")
        return
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    console.print(drawn)
