"""Conformance suite of formats: one named test for each sentence of ``contracts.Format`` and ``Decoder``.

A format's test module subclasses it and says what its messages are::

    class TestJson(FormatConformance):
        form = Json()
        schema = StreamSchema.from_columns({"id": "int64", "name": "string"})
        garbage = (b"{", None)

        def message(self, rows: pl.DataFrame) -> bytes: ...
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from streamcore.batch import HIDDEN, HIDDEN_TYPES, OFFSET, OP_INSERT, SUB, PartitionId, RecordChunk, Rejects
from streamcore.contracts import Decoded, Format
from streamcore.formats import FORMATS, decoder_for
from streamcore.schema import StreamSchema

__all__ = ["FormatConformance"]

SOURCE = PartitionId("conformance", 0, "conformance")


class FormatConformance:
    """Subclass with ``form``, ``schema``, ``garbage`` and :meth:`frame`; ``several``: many rows a message."""

    form: Format
    schema: StreamSchema
    garbage: Sequence[bytes | None] = ()
    """Messages that can't be read; () for a format that reads everything."""
    several = False

    def frame(self, count: int) -> pl.DataFrame:
        """*count* different rows of the schema's columns."""
        raise NotImplementedError

    def message(self, rows: pl.DataFrame) -> bytes:
        """One message with all *rows* (one row unless *several*)."""
        (value,) = self.form.encode(rows).to_pylist()
        return bytes(value)

    # ------------------------------------------------------------ the laws

    def test_its_name_is_in_the_catalogue(self) -> None:
        assert FORMATS[self.form.name] == self.form

    def test_encode_gives_one_value_a_row(self) -> None:
        for count in (0, 1, 5):
            values = self.form.encode(self.frame(count))
            assert values.type == pa.binary()
            assert len(values) == count
            assert values.null_count == 0

    def test_what_is_encoded_decodes_to_the_same_rows(self) -> None:
        frame = self.frame(200)
        decoded = self._decode(self.form.encode(frame).to_pylist())
        assert decoded.rejects.frame.is_empty()
        assert decoded.frame.drop(HIDDEN).equals(frame)

    def test_the_frame_has_the_columns_of_the_schema_and_then_the_hidden_ones(self) -> None:
        for values in ([], self.form.encode(self.frame(3)).to_pylist(), list(self.garbage)):
            decoded = self._decode(values)
            assert decoded.frame.schema == pl.Schema({**self.schema.columns, **HIDDEN_TYPES})

    def test_rows_carry_the_offset_of_their_record_and_are_inserts(self) -> None:
        values = self.form.encode(self.frame(3)).to_pylist()
        decoder = decoder_for(self.form, self.schema)
        frame = decoder.decode(RecordChunk(SOURCE, [5, 9, 1000], values)).frame
        assert frame.select(HIDDEN).rows() == [(5, 0, OP_INSERT), (9, 0, OP_INSERT), (1000, 0, OP_INSERT)]

    def test_rows_of_one_record_are_numbered(self) -> None:
        if not self.several:
            return
        decoded = self._decode([self.message(self.frame(3)), self.message(self.frame(2))])
        assert decoded.frame.select(OFFSET, SUB).rows() == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]

    def test_each_record_is_in_the_frame_or_in_the_rejects_and_never_in_both(self) -> None:
        values = self._mixed()
        decoded = self._decode(values)
        passed = set(decoded.frame.select(OFFSET, SUB).rows())
        refused = set(decoded.rejects.frame.select(OFFSET, SUB).rows())
        assert not passed & refused
        assert {offset for offset, _ in passed | refused} == set(range(len(values)))

    def test_bad_records_become_rejects_and_their_neighbours_pass(self) -> None:
        values = self._mixed()
        decoded = self._decode(values)
        bad = [i for i, value in enumerate(values) if value in self.garbage]
        assert decoded.rejects.frame[OFFSET].unique().sort().to_list() == bad
        assert set(decoded.rejects.frame["stage"]) <= {"decode", "schema"}
        assert decoded.rejects.frame["code"].str.len_chars().min() != 0

    def test_messages_of_rejects_hold_no_content(self) -> None:
        secret = b"s3cr3t-content"
        decoded = self._decode([secret, b'{"id": "' + secret + b'"}'])
        assert "s3cr3t" not in str(decoded.rejects.frame.to_dicts())

    def test_a_message_cut_at_any_byte_never_raises(self) -> None:
        whole = self.message(self.frame(1))
        values = [whole[:end] for end in range(len(whole))]
        decoded = self._decode(list(values))
        both = pl.concat([decoded.frame[OFFSET], decoded.rejects.frame[OFFSET]])
        assert both.n_unique() == len(values)

    def test_however_the_chunk_is_cut_the_same_comes_out(self) -> None:
        values = self._mixed()
        decoder = decoder_for(self.form, self.schema)
        whole = self._decode(values)
        for size in (1, 3, 70):
            parts = [
                decoder.decode(
                    RecordChunk(SOURCE, np.arange(a, min(a + size, len(values))), values[a : a + size])
                )
                for a in range(0, len(values), size)
            ]
            assert pl.concat([p.frame for p in parts]).equals(whole.frame)
            assert Rejects.join([p.rejects for p in parts]).frame.equals(whole.rejects.frame)

    def test_rejects_of_the_chunk_are_passed_on(self) -> None:
        at = pl.DataFrame({OFFSET: [1], SUB: [0]}, schema={OFFSET: pl.Int64, SUB: pl.UInt32})
        chunk = RecordChunk(SOURCE, [0, 2], self.form.encode(self.frame(2)).to_pylist())
        chunk.rejects = Rejects.of(at, "read", "ragged", "ragged")
        decoded = decoder_for(self.form, self.schema).decode(chunk)
        assert decoded.rejects.frame["code"].to_list() == ["ragged"]
        assert decoded.frame[OFFSET].to_list() == [0, 2]

    # ------------------------------------------------------------

    def _decode(self, values: Sequence[bytes | None]) -> Decoded:
        return decoder_for(self.form, self.schema).decode(RecordChunk(SOURCE, range(len(values)), values))

    def _mixed(self) -> list[bytes | None]:
        """Good messages with garbage among them, enough for the columnar path of any format."""
        mixed: list[bytes | None] = self.form.encode(self.frame(150)).to_pylist()
        for i, bad in enumerate(self.garbage):
            mixed.insert((i * 37) % len(mixed), bad)
        return mixed
