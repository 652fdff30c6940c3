import pytest

# The expectations are no test module themselves, and two of those share them.
pytest.register_assert_rewrite(f"{__name__}.records")
