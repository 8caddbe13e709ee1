"""A column encrypted for its own row."""

from __future__ import annotations

import copy
import pickle
import uuid
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import pytest
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import IntegrityError, connection, models, transaction
from django.db.models.functions import Upper
from django.forms import modelform_factory
from django.forms.models import model_to_dict
from hypothesis import given
from hypothesis import strategies as st

from mestore.lib import crypto, ids, sql
from mestore.lib.fields import EncryptedField
from tests.lib.keys import AFTER_ROTATION, ONE_KEY, ROTATED

pytestmark = pytest.mark.django_db(databases=["default", "audit"])


class Device(models.Model):
    id = models.UUIDField(primary_key=True, default=ids.uuid7)
    name = models.TextField(default="")
    seed = EncryptedField()
    note = EncryptedField(null=True)  # type: ignore[misc]  # the type of a nullable one is not told apart

    objects: ClassVar[models.Manager[Device]] = models.Manager()

    class Meta:
        app_label = "tests_of_lib"
        managed = False
        db_table = "tests_device"

    def __str__(self) -> str:
        return self.name


@pytest.fixture(autouse=True)
def table(settings: Any, db: None) -> Iterator[Any]:
    settings.MESTORE_MASTER_KEYS = ONE_KEY
    sql.execute("CREATE TEMPORARY TABLE tests_device (id uuid, name text, seed bytea NOT NULL, note bytea)")
    yield settings
    sql.execute("DROP TABLE tests_device")


def stored(column: str = "seed") -> bytes:
    row = sql.fetch_one(sql.compose("SELECT {column} FROM tests_device", column=column))
    assert row is not None
    return bytes(row[0])


class TestReadingAndWriting:
    def test_a_text_comes_back_and_the_database_holds_none_of_it(self) -> None:
        device = Device.objects.create(seed="JBSWY3DPEHPK3PXP", note="ñandú")

        assert device.seed == "JBSWY3DPEHPK3PXP"
        loaded = Device.objects.get()
        assert (loaded.seed, loaded.note) == ("JBSWY3DPEHPK3PXP", "ñandú")
        assert b"JBSWY3" not in stored()
        assert "ñandú".encode() not in stored("note")

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_any_text_comes_back(self, text: str) -> None:
        device = Device.objects.create(seed=text)

        assert Device.objects.get(pk=device.pk).seed == text

    def test_null_stays_null_and_empty_stays_empty(self) -> None:
        device = Device.objects.create(seed="", note=None)

        loaded: Any = Device.objects.get()
        assert (loaded.seed, loaded.note) == ("", None)
        loaded.note = "now"
        loaded.save(update_fields=["note"])
        assert Device.objects.get().note == "now"
        loaded.note = None
        loaded.save(update_fields=["note"])
        assert Device.objects.get(pk=device.pk).note is None

    def test_a_required_field_without_a_value_is_refused_by_the_database(self) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            Device.objects.create(name="no seed")

    def test_a_changed_text_is_read_at_once_and_stored_on_save(self) -> None:
        device = Device.objects.create(seed="old")
        device.seed = "new"
        assert device.seed == "new"
        assert Device.objects.get().seed == "old"

        device.save()
        assert Device.objects.get().seed == "new"

    def test_a_deferred_field_is_loaded_when_it_is_asked_for(self, django_assert_num_queries: Any) -> None:
        Device.objects.create(seed="later", note="too")
        device = Device.objects.defer("seed", "note").get()
        assert device.get_deferred_fields() == {"seed", "note"}

        with django_assert_num_queries(1):
            assert device.seed == "later"
        with django_assert_num_queries(0):
            assert device.seed == "later"
        assert Device.objects.only("name").get().note == "too"

    def test_saving_an_instance_without_its_deferred_field_keeps_what_is_stored(self) -> None:
        Device.objects.create(seed="kept")
        device = Device.objects.defer("seed").get()
        device.name = "renamed"
        device.save()

        assert Device.objects.get().seed == "kept"

    def test_refresh_from_db_reads_the_row_again(self) -> None:
        device = Device.objects.create(seed="old")
        other = Device.objects.get()
        other.seed = "new"
        other.save()

        device.refresh_from_db()
        assert device.seed == "new"

    def test_bulk_create_encrypts_each_row_for_itself(self) -> None:
        Device.objects.bulk_create([Device(seed=f"seed {number}", name=str(number)) for number in range(3)])

        assert [device.seed for device in Device.objects.order_by("name")] == ["seed 0", "seed 1", "seed 2"]

    @pytest.mark.parametrize("value", [7, b"bytes", ["x"], models.F("name"), models.Value("x")])
    def test_anything_but_text_is_refused_at_once(self, value: Any) -> None:
        with pytest.raises(TypeError):
            Device(seed=value)


class TestBinding:
    def test_a_value_moved_to_another_row_does_not_open(self) -> None:
        mine, other = Device.objects.create(seed="mine"), Device.objects.create(seed="other")
        sql.execute(
            "UPDATE tests_device SET seed = (SELECT seed FROM tests_device WHERE id = %s) WHERE id = %s",
            [mine.pk, other.pk],
        )

        loaded = Device.objects.get(pk=other.pk)
        with pytest.raises(crypto.Unreadable):
            assert loaded.seed
        assert Device.objects.get(pk=mine.pk).seed == "mine"

    def test_a_value_moved_to_another_column_does_not_open(self) -> None:
        Device.objects.create(seed="seed")
        sql.execute("UPDATE tests_device SET note = seed")

        with pytest.raises(crypto.Unreadable):
            assert Device.objects.get().note

    def test_the_binding_names_table_column_and_key(self) -> None:
        device = Device.objects.create(seed="known")

        bound_to = crypto.row_binding("tests_device", "seed", device.pk)
        assert crypto.unseal(stored(), purpose="field", bound_to=bound_to) == b"known"

    def test_saving_a_value_that_does_not_open_is_refused(self) -> None:
        Device.objects.create(seed="seed")
        sql.execute("UPDATE tests_device SET seed = '\\x01026b31'::bytea")
        device = Device.objects.get()

        with pytest.raises(crypto.Unreadable), transaction.atomic():
            device.save()

    def test_a_copy_under_another_key_needs_its_text_again(self) -> None:
        Device.objects.create(seed="seed")
        double = Device.objects.get()
        double.pk = ids.uuid7()
        double._state.adding = True

        with pytest.raises(crypto.Unreadable), transaction.atomic():
            double.save()
        double.seed = "seed"
        double.save()
        assert Device.objects.get(pk=double.pk).seed == "seed"

    def test_a_row_without_a_key_cannot_be_saved(self) -> None:
        field = Device._meta.get_field("seed")
        assert isinstance(field, EncryptedField)
        with pytest.raises(ValueError, match="primary key first"):
            field.binding(Device(id=None, seed="seed"))

    def test_a_key_given_as_text_is_the_same_key(self) -> None:
        Device.objects.create(id=str(uuid.UUID(int=5)), seed="seed")

        assert Device.objects.get().seed == "seed"

    def test_saving_moves_a_value_to_the_current_key(self, table: Any) -> None:
        Device.objects.create(seed="seed")
        before = stored()
        Device.objects.get().save()
        assert stored() == before

        table.MESTORE_MASTER_KEYS = ROTATED
        Device.objects.get().save()

        table.MESTORE_MASTER_KEYS = AFTER_ROTATION
        assert Device.objects.get().seed == "seed"


LOOKUPS = [
    f"seed{end}" for end in ("", "__exact", "__startswith", "__isnull", "__in", "__gt", "__length", "__regex")
]


class TestRefusals:
    @pytest.mark.parametrize("lookup", LOOKUPS)
    def test_it_cannot_be_searched(self, lookup: str) -> None:
        for ask in (Device.objects.filter, Device.objects.exclude, Device.objects.get):
            with pytest.raises(FieldError, match="encrypted"):
                ask(**{lookup: "x"})

    @pytest.mark.parametrize("order", ["seed", "-seed"])
    def test_nothing_is_ordered_by_it(self, order: str) -> None:
        with pytest.raises(FieldError, match="encrypted"):
            list(Device.objects.order_by(order))

    @pytest.mark.parametrize("value", ["x", None, b"x", models.F("name"), models.Value("x"), Upper("name")])
    def test_update_is_refused(self, value: Any) -> None:
        Device.objects.create(seed="seed", note="note")

        with pytest.raises(FieldError, match="encrypted"), transaction.atomic():
            Device.objects.update(note=value)
        assert Device.objects.get().note == "note"

    def test_a_foreign_text_on_its_way_to_the_database_is_refused(self) -> None:
        field = Device._meta.get_field("seed")
        assert isinstance(field, EncryptedField)

        for prepare in (field.get_db_prep_save, field.get_db_prep_value):
            with pytest.raises(FieldError, match="encrypted"):
                prepare("x", connection)
        with pytest.raises(FieldError, match="encrypted"):
            field.get_transform("lower")

    def test_bulk_update_is_refused(self) -> None:
        device = Device.objects.create(seed="seed")
        device.seed = "new"

        with pytest.raises(FieldError, match="encrypted"), transaction.atomic():
            Device.objects.bulk_update([device], ["seed"])


class TestHiding:
    def test_no_repr_of_an_instance_or_its_state_shows_the_text(self) -> None:
        device = Device(seed="hunter2")
        assert "hunter2" not in repr(device.__dict__) + repr(device) + str(vars(device))
        device.save()
        loaded = Device.objects.get()
        assert loaded.seed == "hunter2"

        for shown in (device, loaded):
            assert "hunter2" not in repr(shown.__dict__)
        assert "<sealed>" in repr(loaded.__dict__)
        assert "sealed" in str(list(Device.objects.values_list("seed", flat=True)))

    def test_serialisers_forms_and_dictionaries_get_nothing(self) -> None:
        Device.objects.create(seed="hunter2", note="hunter3")

        for form in ("json", "python", "xml"):
            assert "hunter" not in str(serializers.serialize(form, Device.objects.all()))
        assert "hunter" not in str(model_to_dict(Device.objects.get()))
        assert list(modelform_factory(Device, fields="__all__").base_fields) == ["id", "name"]

    def test_an_unsaved_text_cannot_be_pickled_but_a_loaded_row_can(self) -> None:
        device = Device(seed="hunter2")
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(device)

        device.save()
        assert b"hunter2" not in pickle.dumps(Device.objects.get())

    def test_a_deep_copy_keeps_the_text(self) -> None:
        device, double = Device(seed="hunter2"), Device()
        double.__dict__.update(copy.deepcopy(device.__dict__))

        assert double.seed == "hunter2"

    def test_the_class_attribute_is_the_descriptor(self) -> None:
        assert isinstance(Device.__dict__["seed"], type(Device.seed))


class TestDeclaration:
    def found(self, model: type[models.Model]) -> list[str | None]:
        field = model._meta.get_field("secret")
        assert isinstance(field, EncryptedField)
        return [message.id for message in field.check()]

    def test_a_sound_declaration_has_no_complaint(self) -> None:
        assert "mestore" not in str(Device.check())

    @pytest.mark.parametrize("option", ["unique", "db_index"])
    def test_an_index_is_refused(self, option: str) -> None:
        body = {
            "__module__": __name__,
            "id": models.UUIDField(primary_key=True),
            "secret": EncryptedField(**cast(dict[str, Any], {option: True})),
            "Meta": type("Meta", (), {"app_label": "tests_of_lib", "managed": False}),
        }

        assert self.found(type(f"Indexed{option.title()}", (models.Model,), body)) == ["mestore.E101"]

    def test_a_key_from_the_database_is_refused(self) -> None:
        class Numbered(models.Model):
            id = models.BigAutoField(primary_key=True)
            secret = EncryptedField()

            class Meta:
                app_label = "tests_of_lib"
                managed = False

            def __str__(self) -> str:
                return "numbered"

        assert self.found(Numbered) == ["mestore.E102"]

    def test_the_column_is_bytea_and_migrations_can_rebuild_the_field(self) -> None:
        field = Device._meta.get_field("note")
        _name, path, positional, keywords = field.deconstruct()

        assert field.db_type(connection) == "bytea"
        assert path == "mestore.lib.fields.EncryptedField"
        assert EncryptedField(*positional, **keywords).deconstruct()[3] == keywords
