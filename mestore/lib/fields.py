"""A text column that is encrypted in the database and bound to its own row.

The column holds what `crypto.seal` made, bound to table, column and primary key: a value copied into another
row or column does not open. Django's converters see no row, so the work is done by a descriptor: reading the
attribute decrypts, saving encrypts. In between the instance holds ciphertext, or a new text that hides itself
when printed.

Because only a row can encrypt, `.update()`, `bulk_update()`, expressions and fixtures are refused; so are
filters and ordering by name, which could only compare ciphertext. Find such a row by a blind index beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, overload

from django.core import checks
from django.core.exceptions import FieldError
from django.db import models
from django.db.models.expressions import Col
from django.db.models.query_utils import DeferredAttribute
from typing_extensions import override

from mestore.lib import crypto

if TYPE_CHECKING:
    _Field = models.Field[str, str]
else:
    _Field = models.Field  # generic for the type checker only

PURPOSE = "field"


class _Sealed(bytes):
    """Ciphertext, as read from the database or made by `pre_save`."""

    def __repr__(self) -> str:
        return "<sealed>"

    __str__ = __repr__


class _Plain:
    """A text that waits to be saved. Shows itself neither in a repr nor in a pickle."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "<secret>"

    def __deepcopy__(self, memo: dict[int, Any]) -> _Plain:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an unsaved secret cannot be pickled")


class _SavedNull:
    """NULL on its way through `pre_save`: tells a saved None from one given to `.update()`."""


_NULL = _SavedNull()


class _EncryptedAttribute(DeferredAttribute):
    """Decrypts on access; encryption waits for `pre_save`, when the primary key is known."""

    field: EncryptedField

    @overload
    def __get__(self, instance: None, owner: Any = None) -> _EncryptedAttribute: ...
    @overload
    def __get__(self, instance: models.Model, owner: Any = None) -> str | None: ...
    def __get__(self, instance: models.Model | None, owner: Any = None) -> _EncryptedAttribute | str | None:
        if instance is None:
            return self
        held = super().__get__(instance, owner)  # loads a deferred column first
        if isinstance(held, _Plain):
            return held.text
        if isinstance(held, _Sealed):
            return crypto.unseal(held, purpose=PURPOSE, bound_to=self.field.binding(instance)).decode("utf-8")
        return None

    def __set__(self, instance: models.Model, value: Any) -> None:
        if isinstance(value, str):
            value = _Plain(value)
        elif not (value is None or isinstance(value, _Sealed | _Plain)):
            raise TypeError(f"{self.field.name} takes text, not {type(value).__name__}")
        instance.__dict__[self.field.attname] = value


class _EncryptedColumn(Col):
    """The column in a query: fine to select, refused in ORDER BY."""

    @override
    def resolve_expression(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise FieldError(f"{self.target.name} is encrypted: nothing can be ordered or computed by it")


class EncryptedField(_Field):
    """Text in Python, sealed `bytea` in the database. Not editable in forms unless asked for."""

    description = "Encrypted text"
    descriptor_class = _EncryptedAttribute
    empty_strings_allowed = False

    def __init__(self, *args: Any, bound_with: Sequence[str] = (), **kwargs: Any) -> None:
        """`bound_with` names columns of the same row that the value is bound to beside the primary key."""
        self.bound_with = tuple(bound_with)
        kwargs.setdefault("editable", False)
        super().__init__(*args, **kwargs)

    @override
    def get_internal_type(self) -> str:
        return "BinaryField"

    def binding(self, instance: models.Model) -> bytes:
        """What a value of this row is bound to. Raises ValueError while the row has no primary key."""
        meta = instance._meta
        key = meta.pk.to_python(instance.pk)
        if key is None:
            raise ValueError(f"{meta.label}.{self.name} is encrypted for its row: set the primary key first")
        others = [getattr(instance, name) for name in self.bound_with]
        return crypto.row_binding(meta.db_table, self.column or "", key, *others)

    # From and to the database

    def from_db_value(self, value: bytes | memoryview | None, *_context: Any) -> _Sealed | None:
        return None if value is None else _Sealed(value)

    @override
    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """The sealed value for this row, which the instance keeps.

        Raises `crypto.Unreadable` for a value that belongs to another row.
        """
        held = model_instance.__dict__.get(self.attname)
        if held is None:
            return _NULL
        bound_to = self.binding(model_instance)
        if isinstance(held, _Plain):
            sealed = _Sealed(crypto.seal(held.text.encode("utf-8"), purpose=PURPOSE, bound_to=bound_to))
        else:
            # Opening it first means that a row copied under a new key fails here, not on its next reading;
            # and a value under an old key moves to the current one whenever its row is saved.
            sealed = _Sealed(crypto.rewrap(held, purpose=PURPOSE, bound_to=bound_to) or held)
        model_instance.__dict__[self.attname] = sealed
        return sealed

    @override
    def get_db_prep_save(self, value: Any, connection: Any) -> bytes | None:
        if isinstance(value, _SavedNull):
            return None
        if not isinstance(value, _Sealed):
            raise FieldError(f"{self.name} is encrypted for its row: set it on the instance and call save()")
        return bytes(value)

    @override
    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> bytes | None:
        return self.get_db_prep_save(value, connection)

    def get_placeholder(self, value: Any, *_context: Any) -> str:
        if hasattr(value, "as_sql"):
            raise FieldError(f"{self.name} is encrypted for its row: an expression cannot be written to it")
        return "%s"

    # In queries

    @override
    def get_col(self, alias: str, output_field: models.Field[Any, Any] | None = None) -> Col:
        return _EncryptedColumn(alias, self, output_field or self)

    @override
    def get_lookup(self, lookup_name: str) -> NoReturn:
        raise FieldError(f"{self.name} is encrypted: {lookup_name} cannot search it; use a blind index")

    @override
    def get_transform(self, lookup_name: str) -> NoReturn:
        self.get_lookup(lookup_name)

    # Towards forms and serialisers: nothing

    @override
    def value_from_object(self, obj: models.Model) -> str:
        return ""

    @override
    def value_to_string(self, obj: models.Model) -> str:
        return ""

    @override
    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        found = super().check(**kwargs)
        if self.unique or getattr(self, "db_index", False):
            found.append(
                checks.Error(
                    "An encrypted field cannot be a key or have an index.",
                    hint="The same text never gives the same bytes. Keep a blind index in its own column.",
                    obj=self,
                    id="mestore.E101",
                )
            )
        if isinstance(self.model._meta.pk, models.AutoField):
            found.append(
                checks.Error(
                    "An encrypted field needs a primary key that is known before the insert.",
                    hint="Give the model a UUID primary key with a default.",
                    obj=self,
                    id="mestore.E102",
                )
            )
        return found
