"""Checks of the parameters of datasets. An error names the field, the value found, the rule and what to do."""


def require(holds: bool, field_name: str, value: object, rule: str, remedy: str) -> None:
    if not holds:
        raise ValueError(f"{field_name}: {value!r} is not possible: {rule}; {remedy}")


def require_count(field_name: str, value: int, smallest: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and value >= smallest, field_name, value, f"it is a whole number of at least {smallest}",
            f"write {smallest} or more")
