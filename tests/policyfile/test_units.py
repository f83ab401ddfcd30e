from decimal import Decimal

import pytest

from autoscaler.policyfile.units import DAYS, MEBIBYTES, MILLICORES, PERCENT, SECONDS, SHARE, Unit, UnitError, unit_of


@pytest.mark.parametrize(
    ("unit", "text", "amount"),
    [
        (SECONDS, "90s", "90"),
        (SECONDS, "10m", "600"),
        (SECONDS, "1h30m", "5400"),
        (SECONDS, "1h 30m", "5400"),
        (SECONDS, "2 d", "172800"),
        (SECONDS, "1.5h", "5400"),
        (SECONDS, "500ms", "0.5"),
        (SECONDS, "1d1h1m1s1ms", "90061.001"),
        (DAYS, "30d", "30"),
        (SHARE, "70%", "0.70"),
        (SHARE, "0.5 %", "0.005"),
        (PERCENT, "20%", "20"),
        (MEBIBYTES, "512MiB", "512"),
        (MEBIBYTES, "512Mi", "512"),
        (MEBIBYTES, "4GiB", "4096"),
        (MEBIBYTES, "1.5Gi", "1536"),
        (MEBIBYTES, "1TiB", "1048576"),
        (MILLICORES, "500m", "500"),
        (MILLICORES, "2 CPU", "2000"),
        (MILLICORES, "0.5cpu", "500"),
        (MILLICORES, "1.5 vCPU", "1500"),
    ],
)
def test_a_number_with_a_unit_is_so_much(unit: Unit, text: str, amount: str) -> None:
    assert unit.amount(text) == Decimal(amount)


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        *[
            (SECONDS, text)
            for text in ("", "s", "90", "-1h", "30m1h", "1h1h", "1 hour", "1:30", "1h,30m", "1h\n2m", "²h")
        ],
        *[(SECONDS, text) for text in ("9" * 16 + "s", "1h30", "10 M", "1..5h", "10m%")],
        *[(DAYS, text) for text in ("36h", "30d 2d", "30 days")],
        *[(SHARE, text) for text in ("70", "70%%", "70% 1%", "70 percent")],
        *[(MEBIBYTES, text) for text in ("4GB", "4G", "4gib", "1GiB 512MiB", "4 GiB GiB")],
        *[(MILLICORES, text) for text in ("0.5", "500 millicores", "1cpu500m")],
    ],
)
def test_what_is_no_number_with_such_a_unit(unit: Unit, text: str) -> None:
    with pytest.raises(UnitError):
        unit.amount(text)


@pytest.mark.parametrize(
    ("field", "share", "unit"),
    [
        ("window_s", False, SECONDS),
        ("history_days", False, DAYS),
        ("memory_mib", False, MEBIBYTES),
        ("cpu_millicores", False, MILLICORES),
        ("percent", False, PERCENT),
        ("cpu_above", True, SHARE),
        ("max_step", False, None),
        ("max_usd_per_hour", False, None),
    ],
)
def test_a_fields_name_says_what_its_number_counts(field: str, share: bool, unit: Unit | None) -> None:
    assert unit_of(field, share=share) is unit
