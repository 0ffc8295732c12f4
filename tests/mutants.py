"""Every step of a refresh, broken on purpose: the tests that should notice must go red.

`make mutants` works in a private copy of the project and prints a table; its exit code is 1 where a break survived.
An edit names the text that it replaces, which must stand there exactly once: `tests/test_mutants.py` sees to that.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIES = 2  # how many run side by side
PATIENCE_SECONDS = 120
_SKIPPED = shutil.ignore_patterns(
    ".git", ".venv", "node_modules", "__pycache__", ".*_cache", ".hypothesis", ".coverage*", "state", ".env"
)
_RED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Edit:
    """`old` becomes `new` in a file; `old` stands there exactly once."""

    file: str
    old: str
    new: str

    def applied(self, root: Path) -> str:
        """The file's text with the edit.

        Raises:
            ValueError: `old` is not there, or there twice: the code has moved on, and the edit must follow.
        """
        text = (root / self.file).read_text()
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.file} has {count} times: {self.old}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Mutant:
    """A step that is broken, and the tests of which at least one must notice."""

    step: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


def _mutant(step: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(step, (Edit(file, old, new),), tests)


_UNPROVEN = "tests/refresh/runs/test_unproven.py::"
_FAULTS = "tests/refresh/runs/test_faults.py::"
_INSIDE = "tests/refresh/runs/test_faults_inside.py::"
_CLAIMS = "tests/contracts/test_claims.py::"
_COLUMN_TYPES = "tests/refresh/runs/test_column_types.py::"
_CONTRACT = "tests/contracts/test_store_contract.py::"
_JOURNAL = "tests/journal/test_entries.py::"
_FILES = "tests/journal/test_file.py::"
_SPARE = "tests/refresh/nothing_lost/test_spare_folder.py::"
_LAST = "tests/refresh/nothing_lost/test_last_resort.py::"
_AGENCIES = "tests/clients/test_agencies.py::"
_FAILING = "tests/refresh/runs/test_failing_rows.py::"
_MANAGER = "tests/library/test_manager.py::"
_CLIENTS = "tests/library/test_clients.py::"
_ROW_LOGINS = "tests/library/test_logins.py::"
_OFFBOARD = "tests/clients/test_removal.py::"
_KEPT = "tests/refresh/runs/test_kept_answers.py::"
_CUT_OFF = "tests/clients/test_cut_off.py::"
_ATTEMPT = "tests/clients/login/test_attempt.py::"
_FORGED = f"{_ATTEMPT}test_a_callback_that_is_not_this_logins_is_refused_with_its_sentence_and_the_login_goes_on"
_LOGINS = "tests/clients/login/test_onboarding.py::"
_LOGIN = "tests/refresh/nothing_lost/test_login.py::"
_TOGETHER = "tests/refresh/runs/test_hosts_together.py::"
_THREADS = "tests/refresh/runs/test_threads.py::"
_SCHEDULE_FILE = "token_refresh/refresh/schedule.py"
_WINDOW = "tests/refresh/runs/test_replay_window.py::"
_SCHEDULE = "tests/refresh/test_schedule.py::"
_TRANSPORT = "tests/net/test_transport.py::"
_COMPLETE = "tests/net/test_completeness.py::"
_FORMS = "tests/providers/test_answer_forms.py::"
_IDENTITY = "tests/refresh/runs/test_identity.py::"
_CLOCKS = "tests/refresh/runs/test_clocks.py::"
_ACCESS = "tests/access/test_access.py::"
_CALLBACKS = "tests/service/test_logins.py::"
_KEYS = "tests/service/test_access.py::"
_PAGE = "tests/service/test_page.py::"

MUTANTS = (
    # Nothing is lost
    _mutant(
        "the request leaves before the intent is noted",
        "token_refresh/refresh/exchange.py",
        "    entry_id = note_intent()\n    raw = transport.post(request)\n",
        "    raw = transport.post(request)\n    entry_id = note_intent()\n",
        f"{_INSIDE}test_a_journal_that_fails_on_the_way_starts_no_more_and_loses_nothing",
    ),
    _mutant(
        "the answer goes to the store before the journal has it",
        "token_refresh/refresh/exchange.py",
        "        journal.keep(entry_id, raw, context)\n",
        "        pass\n",
        f"{_FAULTS}test_a_store_that_fails_for_good_leaves_the_tokens_to_the_next_run",
    ),
    _mutant(
        "the answer is read before it is kept",
        "token_refresh/refresh/exchange.py",
        "    not_saved = None\n",
        "    not_saved = None\n    provider.read_answer(raw)\n",
        f"{_INSIDE}test_a_mistake_in_reading_one_answer_leaves_it_in_the_journal_and_the_others_fresh",
    ),
    _mutant(
        "an entry is cleared before the store confirmed",
        "token_refresh/refresh/write_back.py",
        "            return self._store.store.write([pending.change for pending in batch])\n",
        "            self._journal.finish([pending.entry_id for pending in batch if pending.entry_id is not None])\n"
        "            return self._store.store.write([pending.change for pending in batch])\n",
        f"{_FAULTS}test_a_store_that_fails_for_good_leaves_the_tokens_to_the_next_run",
    ),
    _mutant(
        "a token counts whatever the status",
        "providers/base.py",
        "        is_success = HTTP_OK <= raw.status < HTTP_REDIRECT\n",
        "        is_success = HTTP_OK <= raw.status\n",
        "tests/refresh/runs/test_which_token_counts.py::test_a_token_in_an_answer_that_grants_nothing_replaces_none",
    ),
    _mutant(
        "a token counts beside an error",
        "providers/base.py",
        "or is_refusal(others):\n",
        "or others is None:\n",
        "tests/refresh/runs/test_which_token_counts.py::test_a_token_in_a_refusal_replaces_none",
    ),
    _mutant(
        "a lone refresh token counts where they never change",
        "providers/base.py",
        "refresh_token is not None and can_rotate and verdict",
        "refresh_token is not None and verdict",
        "tests/refresh/runs/test_which_token_counts.py"
        "::test_where_refresh_tokens_never_change_one_without_an_access_token_replaces_none",
    ),
    _mutant(
        "an answer without tokens is kept as if it had some",
        "token_refresh/refresh/recovery.py",
        "        if answer.brings_token:\n            _supersede",
        "        if answer:\n            _supersede",
        "tests/refresh/runs/test_recovery.py::test_of_a_row_that_is_gone_an_answer_without_tokens_is_not_kept",
    ),
    _mutant(
        "a new token without an access token counts as proved",
        "providers/base.py",
        "            is_unproven=brings_token,\n",
        "            is_unproven=False,\n",
        f"{_UNPROVEN}test_an_unproven_token_that_is_refused_gives_way_to_the_one_before",
    ),
    _mutant(
        "where refresh tokens never change a new one counts as proved",
        "providers/base.py",
        "                is_unproven=refresh_token is not None and not can_rotate,\n",
        "                is_unproven=False,\n",
        f"{_UNPROVEN}test_where_refresh_tokens_never_change_a_new_one_is_proved_before_the_old_one_is_given_up",
    ),
    _mutant(
        "an unproven token is not proved in the same run",
        "token_refresh/refresh/listing.py",
        "    if not keys:\n",
        "    if keys is not None:\n",
        f"{_UNPROVEN}test_a_token_that_came_without_an_access_token_is_stored_and_proved_by_one_more_refresh_in_the_same_run",
    ),
    _mutant(
        "a replay does not know that a token was to prove itself",
        "token_refresh/refresh/recovery.py",
        "for one in led_to)\n",
        "for one in ())\n",
        f"{_UNPROVEN}test_a_refusal_that_was_kept_when_the_run_was_killed_puts_the_token_before_back",
        f"{_UNPROVEN}test_a_proof_that_was_kept_when_the_run_was_killed_ends_what_it_was_for",
    ),
    _mutant(
        "an unproven token's own unproven successor is somebody else's",
        "token_refresh/journal/entries.py",
        "        token = (found[0].token,)\n",
        "        token = ()\n",
        f"{_UNPROVEN}test_a_token_that_came_alone_twice_in_a_row_leaves_nothing_open_once_it_is_proved",
        f"{_UNPROVEN}test_of_two_samples_in_a_row_each_gives_way_to_the_one_before",
    ),
    _mutant(
        "where that revokes, the old token is sent before the pair behind a failure",
        "providers/base.py",
        'if self.replay == "last_minute" and (pair := ',
        'if self.replay == "" and (pair := ',
        f"{_UNPROVEN}test_where_replay_kills_the_family_a_pair_behind_a_failure_is_tried_before_the_old_token",
    ),
    _mutant(
        "a pair that was noted counts as tried",
        "token_refresh/journal/entries.py",
        "entry.successor.split()[: -1 if entry.previous else None]",
        "entry.successor.split()",
        f"{_UNPROVEN}test_a_pair_that_was_noted_when_the_run_was_killed_is_tried_by_the_next_run",
    ),
    _mutant(
        "of the successors that were refused only the last is remembered",
        "token_refresh/journal/entries.py",
        "previous = '', successor, rtrim",
        "previous = '', '', rtrim",
        f"{_UNPROVEN}test_of_two_pages_that_show_a_pair_each_is_tried_once_and_then_the_loss_is_said",
    ),
    _mutant(
        "a successor that was never refused counts as refused once another one came",
        "token_refresh/journal/entries.py",
        "rtrim(successor, '0123456789abcdef:')",
        "successor",
        f"{_UNPROVEN}test_an_unproven_token_that_was_not_refused_is_tried_after_a_sample_that_a_restored_token_brought",
    ),
    _mutant(
        "of the tokens before an unproven one only the journal's are put back where a run was killed",
        "token_refresh/refresh/write_back.py",
        '(job.proves[0].previous if job.proves else "") or job.row.previous_refresh',
        "job.proves[0].previous if job.proves else job.row.previous_refresh",
        f"{_UNPROVEN}test_where_a_run_was_killed_the_token_before_is_put_back_from_the_row_that_was_imported_again",
    ),
    _mutant(
        "an answer in an unknown form goes with the refusal of the entered token that was sent once more",
        "token_refresh/clients/admission.py",
        "elif any(candidate.provider.read_answer(raw).verdict is Verdict.UNREAD",
        "elif any(raw is None",
        f"{_UNPROVEN}test_sending_an_entered_token_once_more_keeps_the_answer_even_where_the_token_is_refused",
    ),
    _mutant(
        "a token counts as spent although somebody onboarded over its unproven successor",
        "token_refresh/refresh/recovery.py",
        " and answer.refresh_token is not None and not answer.is_unproven:\n",
        " and answer.refresh_token is not None:\n",
        f"{_UNPROVEN}test_a_token_whose_unproven_successor_somebody_onboarded_over_does_not_count_as_used",
    ),
    _mutant(
        "an expiry that cannot be puts off the second request",
        "token_refresh/refresh/due.py",
        "self.last_minute(self.believed_expiry(row, provider, now))",
        "self.last_minute(row.access_token_expiry)",
        "tests/refresh/runs/test_clocks.py::"
        "test_where_replay_kills_the_family_an_expiry_that_cannot_be_puts_off_no_second_request",
    ),
    _mutant(
        "newer tokens in the journal are left there while the row holds a used one",
        "token_refresh/refresh/recovery.py",
        "for fits in (_is_of, _is_newer):",
        "for fits in (_is_of,):",
        "tests/commands/test_recover.py::"
        "test_tokens_that_waited_while_the_table_was_restored_from_a_backup_go_over_the_used_one",
    ),
    _mutant(
        "the token before an unproven one is not kept",
        "token_refresh/refresh/write_back.py",
        "            elif job.proves or job.row.previous_refresh:\n",
        "            elif job.row.previous_refresh:\n",
        f"{_UNPROVEN}test_an_unproven_token_that_is_refused_gives_way_to_the_one_before",
    ),
    _mutant(
        "the token that was sent gives way to an older one that a backup put into the row",
        "token_refresh/journal/entries.py",
        "iif(previous = '', ?, previous)",
        "?",
        f"{_UNPROVEN}test_a_sample_that_came_while_the_table_was_restored_gives_way_to_the_token_that_was_sent",
    ),
    _mutant(
        "a success that is itself to be proved ends what it was for",
        "token_refresh/refresh/write_back.py",
        "    kept = MAX_UNPROVEN if step is Step.UNPROVEN else 0\n",
        "    kept = 0\n",
        f"{_UNPROVEN}test_where_refresh_tokens_never_change_two_pages_that_show_a_success_cost_the_row_nothing",
    ),
    _mutant(
        "the token before an unproven one is only looked for in the journal",
        "token_refresh/refresh/write_back.py",
        "            elif job.proves or job.row.previous_refresh:\n",
        "            elif job.proves:\n",
        f"{_UNPROVEN}test_on_a_host_without_the_journal_the_token_before_is_in_the_row",
    ),
    _mutant(
        "a second unproven token takes the place of the one before that only the row knows",
        "token_refresh/refresh/write_back.py",
        "        return {} if job.row.previous_refresh and not is_known else sent",
        "        return sent",
        f"{_UNPROVEN}test_on_a_host_without_the_journal_unproven_tokens_in_a_row_give_way_to_the_one_before_all_of_them",
    ),
    _mutant(
        "a token before that was sealed twice counts as one that only the row knows",
        "token_refresh/refresh/write_back.py",
        "        is_known = any(one.token in marks for one in job.proves) if marks else bool(job.proves)",
        "        is_known = job.row.previous_refresh in [one.previous for one in job.proves]",
        f"{_UNPROVEN}test_a_token_before_that_row_and_journal_have_sealed_apart_is_no_other_one",
    ),
    _mutant(
        "of two tokens before that were put back the row forgets the older one",
        "token_refresh/refresh/write_back.py",
        '"previous_refresh": left}',
        '"previous_refresh": ""}',
        f"{_UNPROVEN}test_on_a_host_without_the_journal_unproven_tokens_in_a_row_give_way_to_the_one_before_all_of_them",
    ),
    _mutant(
        "the token before is put back over itself, where a run that was killed had sealed it twice",
        "token_refresh/refresh/write_back.py",
        '!= token else ""',
        "!= token else left",
        f"{_UNPROVEN}test_a_run_that_was_killed_when_it_had_noted_an_unproven_token_leaves_the_one_before_to_be_tried_once",
    ),
    _mutant(
        "an unproven token of an answer that a copy took for superseded has none before it",
        "token_refresh/journal/entries.py",
        "entries(Step.UNPROVEN, Step.SUPERSEDED)",
        "entries(Step.UNPROVEN)",
        f"{_UNPROVEN}test_where_a_copy_of_the_state_folder_took_an_unproven_token_for_somebody_elses_its_loss_has_its_date",
    ),
    _mutant(
        "a copied state folder stores an unproven token",
        "token_refresh/refresh/write_back.py",
        "        if answer.is_unproven and self._context.identity.refusal is not None:\n",
        "        if False:\n",
        "tests/refresh/runs/test_identity.py::"
        "test_a_copied_state_folder_leaves_an_unproven_token_to_the_original_which_knows_the_one_before",
    ),
    _mutant(
        "a refusal is forgotten although the table did not take the token before back",
        "token_refresh/refresh/write_back.py",
        "        elif result.written is Written.REFUSED and pending.proves:\n",
        "        elif False:\n",
        f"{_UNPROVEN}test_where_a_rule_of_the_table_refuses_the_token_before_the_next_run_puts_it_back",
    ),
    _mutant(
        "a login without a refresh token empties the cell of the one before",
        "token_refresh/clients/row.py",
        "    is_kept = not entered.refresh_token and row is not None and bool(row.encrypted_refresh)\n",
        "    is_kept = False\n",
        "tests/library/test_earlier_callers.py::test_a_second_login_without_a_refresh_token_keeps_the_one_in_the_row",
    ),
    _mutant(
        "a token before an unproven one outlives the proof",
        "token_refresh/refresh/result.py",
        ', "previous_refresh": ""})',
        "})",
        f"{_UNPROVEN}test_a_token_before_that_somebody_edited_is_not_taken",
    ),
    _mutant(
        "a token counts as spent although its successor is unproven",
        "token_refresh/refresh/write_back.py",
        "                is_spent=has_successor and step is not Step.UNPROVEN,\n",
        "                is_spent=has_successor,\n",
        f"{_UNPROVEN}test_what_is_not_proved_in_one_run_is_proved_in_the_next",
    ),
    _mutant(
        "a pair behind a failure is never tried",
        "providers/base.py",
        "        if raw.status < SERVER_ERROR or not is_whole or",
        "        if raw.status >= SERVER_ERROR or not is_whole or",
        f"{_UNPROVEN}test_a_pair_behind_a_failure_is_tried_once_the_old_token_is_refused",
    ),
    _mutant(
        "a later answer overwrites a kept one",
        "token_refresh/journal/entries.py",
        "answer = ltrim(answer || ' ' || ?)",
        "answer = ltrim(' ' || ?)",
        f"{_UNPROVEN}test_a_pair_behind_a_failure_is_tried_once_the_old_token_is_refused",
    ),
    _mutant(
        "a token is sent again after an answer of unknown form",
        "token_refresh/refresh/listing.py",
        "journal.entries(Step.UNREAD, Step.SUPERSEDED)\n",
        "journal.entries(Step.SUPERSEDED)\n",
        f"{_UNPROVEN}test_after_a_success_of_unknown_form_the_token_is_not_sent_again_and_the_answer_is_kept",
    ),
    _mutant(
        "a complete refusal of unknown form counts as lost",
        "providers/base.py",
        "        return Verdict.CLIENT_REFUSED if raw.status == UNAUTHORIZED else Verdict.REQUEST_REFUSED\n",
        "        return Verdict.UNCLEAR\n",
        "tests/refresh/runs/test_which_token_counts.py::test_a_token_in_a_refusal_replaces_none",
    ),
    _mutant(
        "the last member of a form that breaks off counts as whole",
        "providers/base.py",
        'form if raw.is_complete else form.rpartition("&")[0]',
        "form",
        f"{_FORMS}test_of_a_pair_that_is_cut_at_each_byte_no_piece_of_a_token_counts",
    ),
    _mutant(
        "what breaks off right behind the tokens one level down brings none",
        "providers/base.py",
        "if place < len(text) or not text[place - 1].isdigit():",
        "if place < len(text) or isinstance(value, str):",
        "tests/providers/test_outcomes.py::test_each_body_means_at_each_status_what_the_design_says",
    ),
    _mutant(
        "a page of its content type alone is a firewall's",
        "providers/base.py",
        "and not is_whole and is_page(",
        "and is_page(",
        f"{_FORMS}test_the_body_decides_and_not_the_content_type",
    ),
    _mutant(
        "a token in an answer stands in what is said of it",
        "providers/answer_words.py",
        "    words = safe_error(words, *(secret for secret in secrets if len(secret) >= _SHORTEST_PIECE))\n",
        "    secrets.clear()\n",
        f"{_FORMS}test_no_token_of_an_answer_stands_in_what_is_said_of_it",
    ),
    _mutant(
        "an interim answer is taken for the final one",
        "token_refresh/net/watchdog.py",
        "        while self.status < HTTPStatus.OK:\n",
        "        while self.status < HTTPStatus.CONTINUE:\n",
        f"{_COMPLETE}test_interim_answers_are_passed_over_and_never_answer_the_next_request",
    ),
    _mutant(
        "an answer counts as complete wherever the connection ends",
        "token_refresh/net/transport.py",
        '    return "Transfer-Encoding" not in response.headers and response.raw.length_remaining == 0\n',
        "    return True\n",
        f"{_COMPLETE}test_an_answer_is_complete_exactly_where_its_announced_end_came",
    ),
    _mutant(
        "a packed answer that breaks off inside counts as complete",
        "token_refresh/net/transport.py",
        "is_complete and is_whole\n",
        "is_complete\n",
        f"{_COMPLETE}test_a_packed_form_that_breaks_off_inside_is_not_complete_though_its_length_is_right",
    ),
    _mutant(
        "what an earlier run left is not replayed",
        "token_refresh/refresh/run.py",
        "        blocked = replay(self._context, self._writeback, self._emit)\n",
        "        blocked = frozenset[str]()\n",
        f"{_FAULTS}test_a_store_that_fails_for_good_leaves_the_tokens_to_the_next_run",
    ),
    _mutant(
        "a replayed answer overwrites what somebody onboarded meanwhile",
        "token_refresh/refresh/recovery.py",
        "    if not _is_of(context, entry, row, led_to if is_proof else ()):\n",
        "    if False:\n",
        "tests/refresh/runs/test_recovery.py",
    ),
    _mutant(
        "an unproven token is forgotten once its row was deleted and imported again",
        "token_refresh/refresh/recovery.py",
        "if is_there else context.store.store.find(of)",
        "if is_there else []",
        f"{_UNPROVEN}test_an_unproven_token_is_proved_in_the_row_that_took_the_place_of_its_own",
    ),
    _mutant(
        "a replayed answer knows its row by the cell alone",
        "token_refresh/refresh/recovery.py",
        "    return isinstance(job, Job) and by_token",
        "    return isinstance(job, str) and by_token",
        "tests/refresh/runs/test_recovery.py",
    ),
    _mutant(
        "a refused proof of writability stops nothing",
        "token_refresh/refresh/listing.py",
        "            store.prove_writable(jobs[0].row)\n",
        "            pass\n",
        f"{_FAULTS}test_nothing_is_sent_to_any_provider_when_the_store_takes_no_writes",
    ),
    _mutant(
        "new rows are refreshed while the store is away",
        "token_refresh/refresh/loop.py",
        "self._writeback.has_failed or store.in_trouble or not store.knows_claims or not self._may_start()",
        "self._writeback.journal_error is not None or not self._may_start()",
        f"{_FAULTS}test_nothing_new_is_refreshed_while_the_store_is_away",
    ),
    _mutant(
        "no room is kept for answers",
        "token_refresh/journal/file.py",
        "            _fill(self._ballast, ballast_bytes)\n",
        "",
        f"{_JOURNAL}test_on_a_full_disk_the_ballast_makes_room_for_the_answer",
    ),
    _mutant(
        "the room is not given up when the disk is full",
        "token_refresh/journal/file.py",
        "            self._ballast.unlink()\n",
        "            pass\n",
        f"{_JOURNAL}test_on_a_full_disk_the_ballast_makes_room_for_the_answer",
    ),
    _mutant(
        "what the journal refuses is not saved before the store is asked",
        "token_refresh/journal/entries.py",
        "                file = self._spare.save(request.uid, sealed, self._clock.now())\n",
        "                raise OSError\n",
        f"{_SPARE}test_a_kill_between_the_file_and_the_store_s_write_loses_nothing",
    ),
    _mutant(
        "what lies in the spare folder is not taken over",
        "token_refresh/journal/entries.py",
        "            self._take_over_spare_files()\n",
        "            pass\n",
        f"{_SPARE}test_what_neither_journal_nor_store_took_is_stored_by_the_next_run_out_of_its_file",
    ),
    _mutant(
        "a file in the spare folder is deleted before the journal has its answer",
        "token_refresh/journal/entries.py",
        "            if entry.lacks_answer:\n                self.keep_sealed",
        "            if entry.lacks_answer:\n                remove(path)\n                self.keep_sealed",
        f"{_JOURNAL}test_a_journal_that_still_has_no_room_leaves_the_file_and_starts_nothing",
    ),
    _mutant(
        "a file in the spare folder goes to any request that opens it",
        "token_refresh/journal/entries.py",
        "            entry = entries.get(uid)\n",
        "            entry = next(iter(entries.values()))\n",
        f"{_JOURNAL}test_an_answer_goes_to_its_own_request_and_no_other_of_its_row",
    ),
    _mutant(
        "a file in the spare folder outlives its entry",
        "token_refresh/journal/entries.py",
        "            for path in self._requests.pop(entry_id, _Request()).files:\n                remove(path)\n",
        "            self._requests.pop(entry_id, None)\n",
        f"{_JOURNAL}test_what_the_store_confirmed_counts_as_saved_although_the_journal_cannot_note_it",
    ),
    _mutant(
        "links in the spare folder are followed",
        "token_refresh/journal/spare.py",
        "flags | os.O_NOFOLLOW | os.O_NONBLOCK",
        "flags | os.O_NONBLOCK",
        "tests/journal/test_spare.py::test_a_link_is_not_followed",
    ),
    _mutant(
        "an answer that is saved nowhere can end in exit code 0",
        "token_refresh/terminal/guard.py",
        "    return {*kinds, Kind.CONFIGURATION} if console.end_not_saved() else kinds\n",
        "    console.end_not_saved()\n    return kinds\n",
        f"{_LAST}test_get_prints_it_on_stderr_alone_for_its_stdout_is_the_token",
    ),
    _mutant(
        "an answer that is saved nowhere is printed on stderr alone",
        "token_refresh/terminal/console.py",
        "        if answer.file is None and not self._is_stdout_reserved:\n",
        "        if False:\n",
        f"{_LAST}test_an_answer_that_nothing_took_is_printed_on_both_streams_at_any_log_level",
    ),
    _mutant(
        "the journal is not synced",
        "token_refresh/journal/file.py",
        '        database.execute("PRAGMA synchronous=EXTRA")\n',
        '        database.execute("PRAGMA synchronous=OFF")\n',
        f"{_JOURNAL}test_every_commit_is_synced_to_the_disk",
    ),
    _mutant(
        "an answer is written down without a sync",
        "token_refresh/journal/file.py",
        "def commit(self, act: Act, *, synced: bool = True)",
        "def commit(self, act: Act, *, synced: bool = False)",
        f"{_JOURNAL}test_an_answer_is_synced_although_the_commit_before_it_was_not",
    ),
    _mutant(
        "the database is not synced",
        "token_refresh/stores/database/sqlite.py",
        '        connection.execute("PRAGMA synchronous=EXTRA")\n',
        '        connection.execute("PRAGMA synchronous=OFF")\n',
        "tests/stores/test_database.py::test_what_is_committed_survives_a_power_cut",
    ),
    _mutant(
        "a dead process's journal is deleted and not copied",
        "token_refresh/journal/file.py",
        "            self._copy(_file(folder, slot))\n",
        "",
        f"{_FILES}test_a_start_takes_over_what_a_dead_process_left_and_deletes_its_files",
    ),
    # Nothing is sent twice
    _mutant(
        "a token is sent again at once where that kills its family",
        "token_refresh/refresh/replay.py",
        'if provider.replay == "once" or is_last_minute else window',
        'if provider.replay != "safe" or is_last_minute else window',
        f"{_FAULTS}test_where_replay_kills_the_family_the_token_is_not_sent_again_before_the_last_minute",
    ),
    _mutant(
        "the next run sends it again before the last minute",
        "token_refresh/refresh/replay.py",
        'if provider.replay == "last_minute" and last_minute',
        'if provider.replay == "never" and last_minute',
        f"{_FAULTS}test_where_replay_kills_the_family_the_token_is_not_sent_again_before_the_last_minute",
    ),
    _mutant(
        "a token is sent again more than once",
        "token_refresh/refresh/replay.py",
        "    if was_lost:\n        return 0\n",
        "    if attempts >= MAX_ATTEMPTS:\n        return 0\n",
        f"{_SCHEDULE}test_a_lost_answer_is_asked_for_once_more_at_once_where_replay_is_once",
    ),
    _mutant(
        "a window in which a spent token is answered is not used",
        "token_refresh/refresh/replay.py",
        "    return provider.replay_window if provider.replay_window >= SHORTEST_WINDOW else 0\n",
        "    return 0\n",
        f"{_WINDOW}test_a_lost_answer_is_asked_for_again_at_once_although_a_later_repeat_ends_the_grant",
    ),
    Mutant(
        "a token is sent again when its window is over",
        (
            Edit(_SCHEDULE_FILE, "< task.not_after and client.may_start:", "< 1e9 and client.may_start:"),
            Edit(_SCHEDULE_FILE, "if not client.may_start or now >= task.not_after:", "if not client.may_start:"),
        ),
        (f"{_WINDOW}test_a_provider_that_asks_for_a_pause_is_asked_again_where_the_window_is_longer",),
    ),
    _mutant(
        "a token that had to wait is sent when its window is over",
        "token_refresh/refresh/schedule.py",
        "if not client.may_start or now >= task.not_after:",
        "if not client.may_start:",
        f"{_SCHEDULE}test_a_token_that_was_held_until_its_window_is_over_does_not_go_out_again",
    ),
    _mutant(
        "onboarding sends a token again when its window is over",
        "token_refresh/clients/proof.py",
        "clock.monotonic() - began >= replay",
        "clock.monotonic() - began < 0 * replay",
        f"{_WINDOW}test_onboarding_does_not_ask_again_when_the_window_is_over",
    ),
    _mutant(
        "the first request of a window may take as long as any",
        "token_refresh/net/transport.py",
        "min(self._seconds, request.seconds or self._seconds)",
        "self._seconds",
        "tests/net/test_watchdog.py::test_a_request_with_a_limit_of_its_own_ends_before_one_that_was_there_first",
    ),
    _mutant(
        "the first request of a window is given no limit of its own",
        "token_refresh/refresh/replay.py",
        "    return min(FIRST_SECONDS, window / 3) or EXCHANGE_SECONDS\n",
        "    return EXCHANGE_SECONDS + 0 * window\n",
        f"{_WINDOW}test_the_first_request_ends_early_enough_for_another_and_that_has_the_usual_time",
    ),
    _mutant(
        "the watchdog sleeps through a deadline before the one it waits for",
        "token_refresh/net/watchdog.py",
        "            if all(watch.deadline < other.deadline for other in self._watches):\n",
        "            if not self._watches:\n",
        "tests/net/test_watchdog.py::test_a_request_with_a_limit_of_its_own_ends_before_one_that_was_there_first",
    ),
    _mutant(
        "a token of a killed run waits for ninety seconds although its window is over by then",
        "token_refresh/refresh/replay.py",
        "    if lost is None or is_in_window(provider, lost, now):\n",
        "    if lost is None:\n",
        f"{_WINDOW}test_in_the_window_the_next_run_waits_for_the_first_request_s_own_limit_and_sends_the_token_again",
    ),
    _mutant(
        "a token of a killed run is sent while its first request may arrive",
        "token_refresh/refresh/schedule.py",
        "            if task.not_before:\n",
        "            if False:\n",
        f"{_WINDOW}test_in_the_window_the_next_run_waits_for_the_first_request_s_own_limit_and_sends_the_token_again",
    ),
    _mutant(
        "the resend of a killed run is waited for as if it had been the first request",
        "token_refresh/refresh/replay.py",
        "limit_of(provider, is_first=entry.lost_at is None)",
        "limit_of(provider, is_first=True)",
        f"{_WINDOW}test_a_killed_resend_is_given_the_usual_time",
    ),
    _mutant(
        "a window is counted from a time that a wrong clock wrote",
        "token_refresh/journal/entries.py",
        "iif(step = 'answered', lost_at, ?)",
        "iif(?, lost_at, lost_at)",
        f"{_WINDOW}test_when_a_request_left_by_a_clock_that_ran_ahead_is_not_known_so_no_window_is_counted_on",
    ),
    _mutant(
        "what was kept of an earlier login counts as newer",
        "token_refresh/refresh/replay.py",
        "spent_at is not None and spent_at <= superseded.started_at",
        "spent_at is not None",
        f"{_KEPT}test_what_was_kept_of_the_login_before_is_not_put_over_a_used_token_of_the_one_after_it",
    ),
    _mutant(
        "an answer of unknown form ends with the row's next token",
        "token_refresh/refresh/recovery.py",
        "    elif answer.verdict is Verdict.UNREAD:\n        _close(context, entry, answer)\n    else:\n",
        "    else:\n",
        f"{_KEPT}test_an_answer_that_is_read_late_and_has_no_known_form_is_kept_although_another_row_has_its_key",
    ),
    _mutant(
        "a key that is missing is made up for by another memory of used tokens",
        "token_refresh/refresh/run_identity.py",
        "        elif self._identity.missing_key:\n",
        "        elif False:\n",
        f"{_KEPT}test_a_used_token_is_known_although_runs_re_encrypted_the_row_and_nobody_rotated_the_key",
    ),
    _mutant(
        "the end of a row ends the answers of the one that had its key before",
        "token_refresh/clients/removal.py",
        "if entry.location_id == row.location_id]",
        "]",
        f"{_KEPT}test_the_end_of_a_row_ends_no_answer_of_the_one_that_had_its_key_before",
    ),
    _mutant(
        "an unproven token alone is revoked",
        "token_refresh/clients/removal.py",
        "                for token in self._unproven_before(row)\n",
        "                for token in ()\n",
        f"{_KEPT}test_a_grant_whose_new_token_is_not_proved_is_revoked_by_the_token_before_too",
    ),
    _mutant(
        "a token whose successor is stored is sent",
        "token_refresh/refresh/replay.py",
        "    return is_spent and provider.rotates",
        "    return not is_spent and provider.rotates",
        f"{_FAULTS}test_a_row_that_was_restored_from_an_old_backup_is_not_sent",
    ),
    _mutant(
        "two rows with one token are both sent",
        "token_refresh/refresh/listing.py",
        "    duplicates = duplicates_among(jobs)\n",
        "    duplicates: dict[str, UnusableRow] = {}\n",
        f"{_FAULTS}test_a_duplicated_row_is_not_sent_and_both_are_named",
    ),
    _mutant(
        "a dead grant is sent again",
        "token_refresh/refresh/listing.py",
        "        if row.status == STATUS_REAUTHORIZE and not _may_live(context, row, cell, failure, now):\n",
        "        if row.status == STATUS_REAUTHORIZE and not cell:\n",
        f"{_FAILING}test_a_dead_grant_is_remembered_where_the_table_cannot_say_so_and_is_not_sent_again",
    ),
    # One run, one row
    _mutant(
        "a second run is let in",
        "token_refresh/journal/lock.py",
        "    while (descriptor := hold(path)) is None:\n",
        "    while (descriptor := hold(path) or os.open(path, os.O_RDWR)) is None:\n",
        "tests/journal/test_lock.py::test_a_second_run_learns_who_holds_the_lock_and_since_when",
    ),
    _mutant(
        "a journal that another process has is taken",
        "token_refresh/journal/lock.py",
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "",
        f"{_FILES}test_what_a_killed_process_left_is_taken_over_and_what_a_living_one_has_is_not",
    ),
    _mutant(
        "the copy of an entry that nobody went on with wins",
        "token_refresh/journal/file.py",
        " AND excluded.step != step",
        " AND 0",
        f"{_FILES}test_of_two_runs_that_noted_one_entry_of_another_store_the_one_that_went_on_is_believed",
    ),
    _mutant(
        "what another run has proved comes back",
        "token_refresh/refresh/recovery.py",
        "if spent_at is not None and spent_at > entry.sent_at:",
        "if spent_at is None:",
        f"{_UNPROVEN}test_a_token_that_two_runs_noted_of_each_other_is_forgotten_when_one_has_proved_it",
    ),
    _mutant(
        "what was replaced before its request counts as proved",
        "token_refresh/refresh/recovery.py",
        "if spent_at is not None and spent_at > entry.sent_at:",
        "if spent_at is not None:",
        f"{_UNPROVEN}test_an_unproven_token_is_kept_also_where_the_one_before_had_been_replaced_before_it_was_sent_again",
    ),
    _mutant(
        "the earlier of two daily looks is taken over",
        "token_refresh/journal/file.py",
        "excluded.looked_at > looked_at",
        "excluded.looked_at < looked_at",
        f"{_FILES}test_what_another_process_looked_at_today_is_not_looked_at_again",
    ),
    _mutant(
        "the earlier of two times at which a token was spent is taken over",
        "token_refresh/journal/file.py",
        "excluded.spent_at > spent_at",
        "excluded.spent_at < spent_at",
        f"{_FILES}test_a_token_that_two_processes_spent_was_spent_by_the_later",
    ),
    _mutant(
        "what moves on while it is looked for is missed",
        "token_refresh/journal/file.py",
        "while others != (others := self._others(all_stores=all_stores)):",
        "for others in [self._others(all_stores=all_stores)]:",
        f"{_FILES}test_what_moves_on_into_a_file_that_was_read_already_is_found",
    ),
    _mutant(
        "a row that another run has is claimed",
        "token_refresh/stores/database/store.py",
        "table.id.in_(these), is_open).limit(limit)",
        "table.id.in_(these)).limit(limit)",
        f"{_CLAIMS}test_a_round_is_claimed_when_it_is_asked_for_and_holds_what_is_still_due_and_free",
    ),
    _mutant(
        "what is due is looked up again for each round",
        "token_refresh/stores/database/store.py",
        "            claimed = self._claim(query, claimant, window, limit)\n",
        "            claimed = self._claim(query, claimant, self._transact(look_up).tolist(), limit)\n",
        f"{_CLAIMS}test_a_row_that_is_due_again_is_in_no_later_round",
    ),
    _mutant(
        "rows are passed by with those that others took",
        "token_refresh/stores/database/store.py",
        "window = [one for one in window if one not in taken]",
        "window = []",
        f"{_CLAIMS}test_rows_that_others_took_meanwhile_are_passed_in_few_steps_and_none_that_is_free_with_them",
    ),
    _mutant(
        "an edit moves rows out of a run",
        "token_refresh/stores/database/store.py",
        "window = [one for one in window if one not in taken]",
        "window = window[1 + max(map(window.index, taken)) :]",
        f"{_CLAIMS}test_an_edit_that_makes_a_row_the_most_urgent_keeps_no_other_from_its_turn",
    ),
    _mutant(
        "a claim whose confirmation was lost is somebody else's",
        "token_refresh/stores/database/store.py",
        "is_open = sa.or_(is_free(claimant, query, now), is_ours)",
        "is_open = is_free(claimant, query, now)",
        "tests/stores/test_postgres.py::"
        "test_claims_whose_answer_was_lost_are_asked_for_once_more_and_given_up_at_the_end",
    ),
    _mutant(
        "the new token of a row whose claim was cleared is let go",
        "token_refresh/stores/database/claims.py",
        'sa.or_(owner == sa.bindparam("owner", type_=sa.Text), owner.is_(None))',
        'owner == sa.bindparam("owner", type_=sa.Text)',
        f"{_CLAIMS}test_the_new_token_of_a_row_whose_claim_a_person_cleared_meanwhile_is_stored",
    ),
    _mutant(
        "a row that nobody can write keeps the others from their turn",
        "token_refresh/stores/database/store.py",
        "        if len(ids) == 1:\n",
        "        if ids:\n",
        "tests/refresh/runs/test_shared_database.py::"
        "test_a_row_that_a_rule_of_the_table_lets_nobody_write_is_named_and_stops_no_other",
    ),
    _mutant(
        "claims are not kept while they are worked on",
        "token_refresh/refresh/loop.py",
        "            store.keep_claims()\n",
        "",
        "tests/refresh/runs/test_shared_database.py::test_nobody_is_advised_to_take_over_what_a_run_still_works_on",
    ),
    _mutant(
        "what another has taken over is sent",
        "token_refresh/refresh/loop.py",
        "if not self._context.store.store.has_claim(job.row.key):",
        "if job is None:",
        "tests/refresh/runs/test_shared_database.py::"
        "test_a_run_whose_rows_were_taken_over_while_its_machine_slept_sends_none_of_them",
    ),
    _mutant(
        "a machine that wakes up sends before it looks",
        "token_refresh/refresh/loop.py",
        "store.in_trouble or not store.knows_claims or",
        "store.in_trouble or",
        "tests/refresh/runs/test_shared_database.py::"
        "test_a_run_whose_rows_were_taken_over_while_its_machine_slept_sends_none_of_them",
        "tests/refresh/runs/test_shared_database.py::"  # the one before may look in time by chance
        "test_a_run_that_cannot_see_whether_its_rows_are_still_its_own_sends_none_and_ends",
    ),
    _mutant(
        "a run that wakes up gives its rows up",
        "token_refresh/refresh/loop.py",
        "            times.append(self._polls_at)\n",
        "            pass\n",
        "tests/refresh/runs/test_shared_database.py::test_a_run_whose_machine_slept_goes_on_where_nobody_took_its_rows",
    ),
    _mutant(
        "a run that cannot see whose its rows are goes on asking",
        "token_refresh/refresh/loop.py",
        "            self._writeback.error = self._writeback.error if store.knows_claims else error\n",
        "            del error\n",
        "tests/refresh/runs/test_shared_database.py::"
        "test_a_run_that_cannot_see_whether_its_rows_are_still_its_own_sends_none_and_ends",
    ),
    _mutant(
        "rounds that nobody asked for are not told",
        "token_refresh/refresh/run.py",
        "if self._stop_reason and (left :=",
        "if self._report.stopped and (left :=",
        "tests/refresh/runs/test_shared_database.py::"
        "test_a_run_that_is_stopped_between_two_rounds_says_how_many_rows_it_has_not_come_to",
    ),
    _mutant(
        "a row in an open transaction is not told",
        "token_refresh/stores/database/store.py",
        "                self._passed.extend(window)\n",
        "",
        "tests/refresh/runs/test_shared_database.py::"
        "test_a_row_in_a_transaction_that_somebody_left_open_is_named_by_each_run",
    ),
    _mutant(
        "rows that are not due are kept from others",
        "token_refresh/refresh/listing.py",
        "store.give_up(() if scope.dry_run else {",
        "store.give_up(() if rows or scope.dry_run else {",
        "tests/refresh/runs/test_shared_database.py::"
        "test_a_row_that_only_its_provider_makes_due_is_not_kept_from_others",
    ),
    _mutant(
        "a round under another key is told as the key's",
        "token_refresh/refresh/listing.py",
        "yield from filter(lambda _: not faulty.shut, map(jobs_of, rounds))",
        "yield from map(lambda jobs: faulty.require_key() or jobs, map(jobs_of, rounds))",
        "tests/refresh/runs/test_shared_database.py::"
        "test_rows_that_no_key_opens_stop_no_other_in_whichever_round_they_are",
    ),
    _mutant(
        "a run writes a row that was taken from it",
        "token_refresh/stores/database/store.py",
        "        if generation is not None:\n            claim =",
        "        if generation == -1:\n            claim =",
        f"{_CLAIMS}test_a_row_that_was_taken_over_meanwhile_rejects_the_write_of_the_one_before",
    ),
    _mutant(
        "of a batch, what met no row counts as written",
        "token_refresh/stores/database/store.py",
        ".rowcount != len(many):",
        ".rowcount > len(many):",
        f"{_CONTRACT}test_250_changes_at_once_each_find_their_row",
        f"{_CLAIMS}test_a_row_that_was_taken_over_meanwhile_rejects_the_write_of_the_one_before",
    ),
    _mutant(
        "claims of a dead process are not inherited",
        "token_refresh/journal/file.py",
        "            inherit(self.slot, folder, slot)\n",
        "",
        "tests/refresh/runs/test_claims.py::test_what_a_killed_run_had_claimed_is_the_next_run_s",
    ),
    _mutant(
        "claims are kept when a run ends",
        "token_refresh/refresh/claims.py",
        "            context.store.store.release(",
        "            print(",
        "tests/refresh/runs/test_claims.py::test_a_run_works_round_by_round_and_leaves_no_claim",
        "tests/refresh/runs/test_claims.py::test_no_round_begins_when_the_time_is_over",
    ),
    _mutant(
        "a second host goes unnoticed",
        "token_refresh/refresh/listing.py",
        "            context.identity.refuse_others_row(row, context.policy.interval)\n",
        "            pass\n",
        f"{_FAULTS}test_a_second_host_stops_the_run_until_it_is_taken_over",
    ),
    _mutant(
        "a row at Airtable is written without comparing its cell",
        "token_refresh/stores/airtable/store.py",
        "else change.judge(cells)\n",
        "else None\n",
        f"{_CONTRACT}test_another_cell_stays",
    ),
    _mutant(
        "what Airtable shows after a write is not compared with what was written",
        "token_refresh/stores/airtable/cells.py",
        "return isinstance(shown, str) and _composed(shown) == _composed(sent)",
        "return True",
        f"{_COLUMN_TYPES}test_onboarding_into_rich_text_saves_nothing_and_says_so",
    ),
    _mutant(
        "a row whose cell Airtable changed keeps it",
        "token_refresh/stores/airtable/store.py",
        "            self._update([(key, cells) for key, cells in before if cells])\n",
        "            pass\n",
        f"{_COLUMN_TYPES}test_a_date_without_time_costs_one_round_of_tokens_and_loses_none",
    ),
    _mutant(
        "a list in a column of text counts as an empty cell",
        "token_refresh/stores/airtable/cells.py",
        "                error = error or _error(",
        "                error = error and _error(",
        f"{_COLUMN_TYPES}test_a_cell_of_another_type_is_its_rows_fault",
    ),
    _mutant(
        "a verdict that the table cannot hold is forgotten",
        "token_refresh/stores/airtable/store.py",
        'return frozenset({"status"}) if STATUS_REAUTHORIZE in self._columns.missing_options else frozenset()',
        "return frozenset()",
        f"{_COLUMN_TYPES}test_a_dead_grant_is_remembered_where_its_option_is_missing",
    ),
    _mutant(
        "a page that is too large is asked for again as it was",
        "token_refresh/stores/airtable/store.py",
        "                self._page_sizes = self._page_sizes[1:]\n",
        "                raise\n",
        f"{_COLUMN_TYPES}test_a_page_larger_than_any_answer_may_be_is_read_in_smaller_ones",
    ),
    _mutant(
        "a row of the database is written whatever cell is in it",
        "token_refresh/stores/database/claims.py",
        'stripped(CREDENTIALS.c[name]) == sa.bindparam(f"seen_{name}", type_=sa.Text) for name',
        'sa.bindparam(f"seen_{name}", type_=sa.Text).is_not(None) for name',
        f"{_CONTRACT}test_another_cell_stays",
    ),
    # Nobody reads what is not theirs
    _mutant(
        "a cell opens in any row and field",
        "crypto.py",
        "        parts = [_PREFIX, key_id, self.field, self.location_id.strip(), self.origin]\n",
        "        parts = [_PREFIX, key_id]\n",
        "tests/stores/test_sealed.py::test_a_cell_copied_elsewhere_does_not_open",
    ),
    _mutant(
        "a cell opens at any host",
        "crypto.py",
        "self.location_id.strip(), self.origin]\n",
        "self.location_id.strip()]\n",
        "tests/stores/test_sealed.py::test_a_row_pointed_at_another_host_does_not_open",
    ),
    _mutant(
        "a cell of an unknown key is tried with another",
        "crypto.py",
        "            raise UnknownKeyError(key_id)\n",
        "            key_id = self.key_id\n",
        "tests/stores/test_sealed.py::test_an_unknown_key_in_one_row_leaves_the_others_alone",
    ),
    Mutant(
        "a redirect is followed",
        (
            Edit(
                "token_refresh/net/transport.py",
                "            allow_redirects=False,\n",
                "            allow_redirects=True,\n",
            ),
            Edit(
                "token_refresh/net/tls.py",
                "    def get_redirect_target(self",
                "    def _get_redirect_target(self",
            ),
        ),
        ("tests/net/test_transport.py",),
    ),
    # The figures that the documents promise
    _mutant(
        "an exchange is given up before its time",
        "token_refresh/net/transport.py",
        "EXCHANGE_SECONDS = 90.0\n",
        "EXCHANGE_SECONDS = 45.0\n",
        "tests/net/test_watchdog.py::test_an_exchange_has_ninety_seconds_of_which_ten_may_go_by_before_it_is_connected",
        f"{_FAULTS}test_two_lost_answers_leave_one_more_request_to_the_next_run",
    ),
    _mutant(
        "an exchange is given up between two bytes",
        "token_refresh/net/transport.py",
        "self._seconds), None)",
        "self._seconds), 5.0)",
        "tests/net/test_watchdog.py::test_an_exchange_has_ninety_seconds_of_which_ten_may_go_by_before_it_is_connected",
    ),
    _mutant(
        "an answer without an end is read to its end",
        "token_refresh/net/transport.py",
        "while len(body) < MAX_BODY_BYTES and (",
        "while (",
        f"{_TRANSPORT}test_what_comes_after_a_mebibyte_is_not_waited_for",
    ),
    _mutant(
        "room is kept for a single answer",
        "token_refresh/wiring.py",
        "            settings.concurrency * BALLAST_BYTES,\n",
        "            BALLAST_BYTES,\n",
        f"{_INSIDE}test_room_is_kept_for_one_answer_of_each_request_that_may_be_out",
    ),
    _mutant(
        "a store that is away is given up after a minute",
        "token_refresh/refresh/write_back.py",
        "OUTAGE_SECONDS = 120.0",
        "OUTAGE_SECONDS = 60.0",
        f"{_INSIDE}test_a_store_that_is_away_is_waited_for_two_minutes",
    ),
    _mutant(
        "what a slow store has not taken grows with the table",
        "token_refresh/refresh/loop.py",
        "        return unsaved < UNSAVED_BATCHES *",
        "        return unsaved < 1000 * UNSAVED_BATCHES *",
        f"{_INSIDE}test_answers_that_the_store_has_not_taken_yet_hold_back_new_requests",
    ),
    _mutant(
        "a fresh token waits for company while the old one is dead",
        "token_refresh/refresh/write_back.py",
        "            wait = min(wait, SHORT_WAIT_SECONDS)\n",
        "            pass\n",
        f"{_INSIDE}test_a_finished_row_waits_for_company_but_not_for_long",
    ),
    _mutant(
        "a second host counts as gone after one interval",
        "token_refresh/refresh/run_identity.py",
        "timedelta(seconds=2 * interval)",
        "timedelta(seconds=interval)",
        f"{_FAULTS}test_a_host_that_has_refreshed_nothing_for_two_intervals_is_gone",
    ),
    _mutant(
        "a database that another program writes is an outage at once",
        "token_refresh/stores/database/sqlite.py",
        'busy = {} if "timeout" in url.query else {"timeout": BUSY_SECONDS}\n',
        'busy = {} if "timeout" in url.query else {"timeout": 0}\n',
        "tests/stores/test_database.py::test_another_program_s_write_is_waited_for",
    ),
    _mutant(
        "Airtable is asked before the time that it named",
        "token_refresh/stores/airtable/gate.py",
        "            return max(backoff, self._retry_after(response))\n",
        "            return backoff\n",
        "tests/stores/test_airtable.py::test_who_says_how_long_an_outage_lasts_is_not_asked_before",
    ),
    _mutant(
        "rows that failed at once come back at once",
        "token_refresh/refresh/schedule.py",
        "self._jitter.uniform(0.5, 1.0) * 2.0**task.attempts",
        "2.0**task.attempts",
        f"{_SCHEDULE}test_rows_that_failed_at_once_do_not_come_back_at_once",
    ),
    _mutant(
        "the programs leave their memory to be read",
        "token_refresh/commands/__init__.py",
        "    process.harden_process()\n",
        "    pass\n",
        "tests/terminal/test_process.py::test_nobody_but_root_may_look_at_the_memory_of_the_programs",
    ),
    _mutant(
        "plugins are shown what Pydantic checks",
        "token_refresh/commands/__init__.py",
        "    process.shut_out_plugins()\n",
        "",
        "tests/terminal/test_process.py::test_no_plugin_is_shown_what_pydantic_checks_and_no_child_hears_of_that",
    ),
    _mutant(
        "a database in a folder with a space in its name is called one that nobody uses",
        "token_refresh/wiring.py",
        'return file.samefile(parse_address(url).database or "")',
        'return url == f"sqlite:///{file}"',
        "tests/commands/test_import.py::"
        "test_the_database_that_is_used_is_not_taken_for_one_that_was_left_however_its_folder_is_called",
    ),
    # Nobody is blamed for another, and everybody is told once
    _mutant(
        "one thread's bad value fails the others that share its commit",
        "token_refresh/journal/file.py",
        "        if error is None or isinstance(error, sqlite3.Error) or len(batch) == 1:\n",
        "        if batch:\n",
        f"{_FILES}test_a_value_that_sqlite_cannot_take_costs_only_whoever_brought_it",
    ),
    _mutant(
        "the older of two failures of a row is taken over",
        "token_refresh/journal/file.py",
        "excluded.tried_at > tried_at",
        "excluded.tried_at < tried_at",
        f"{_FILES}test_of_two_failures_of_one_row_the_later_one_is_taken_over",
    ),
    _mutant(
        "a doubtful refusal is tried for ever",
        "token_refresh/refresh/replay.py",
        "<= DOUBT\n",
        "<= 99 * DOUBT\n",
        f"{_FAILING}test_a_doubtful_refusal_is_tried_once_a_day_for_seven_days",
    ),
    _mutant(
        "a doubtful refusal is tried in every run",
        "token_refresh/refresh/replay.py",
        "= timedelta(0) <= now - failure.tried_at < A_DAY ",
        "= timedelta(0) > A_DAY ",
        f"{_FAILING}test_in_a_table_without_a_status_a_doubtful_refusal_is_tried_as_rarely",
    ),
    _mutant(
        "rows that fail go before those that do not",
        "token_refresh/refresh/schedule.py",
        "return (task.has_failed, ",
        "return (not task.has_failed, ",
        "tests/refresh/test_schedule.py::test_rows_that_failed_last_time_go_last_also_those_whose_answer_was_lost",
    ),
    _mutant(
        "one row that is asked to wait stops its client",
        "token_refresh/refresh/schedule.py",
        "is_second = client.throttled not in (None, task)",
        "is_second = True",
        "tests/refresh/test_schedule.py::test_a_pause_of_an_hour_at_one_row_ends_that_row_and_no_other",
    ),
    _mutant(
        "a host is left alone although a row that was well is not heard",
        "token_refresh/refresh/schedule.py",
        "if host.probe is not None and host.probe.answer is None:",
        "if not host:",
        "tests/refresh/test_schedule.py::test_before_a_host_is_left_alone_a_row_that_was_well_is_heard",
    ),
    _mutant(
        "due rows that were not tried are a success",
        "token_refresh/base/events.py",
        "any(not row.is_brief for row in self.waiting)",
        "any(row.is_brief and not row.is_brief for row in self.waiting)",
        "tests/refresh/runs/test_events.py::test_a_provider_that_accepts_no_early_refresh_leaves_its_row_waiting",
    ),
    _mutant(
        "a refresh that fails once has no second run before the token ends",
        "token_refresh/refresh/due.py",
        "return 2 * self.interval + self.buffer",
        "return self.interval + self.buffer",
        "tests/refresh/test_due.py::"
        "test_where_two_runs_fit_a_refresh_that_fails_once_is_tried_again_before_the_token_ends",
    ),
    _mutant(
        "a mended row is never looked at again",
        "token_refresh/refresh/listing.py",
        "and failures.starts_daily_check():\n",
        "and not failures:\n",
        f"{_FAILING}test_a_row_whose_credential_was_fixed_but_not_its_status_is_found_within_a_day",
    ),
    _mutant(
        "a mistake in a subscriber ends the run",
        "token_refresh/base/events.py",
        "            except Exception as error:\n                self._name(",
        "            except ZeroDivisionError as error:\n                self._name(",
        "tests/base/test_events.py::test_a_mistake_in_a_subscriber_stops_nothing_and_is_named_once_without_its_words",
    ),
    _mutant(
        "a notice is said again in each round of rows",
        "token_refresh/refresh/run.py",
        "            if self._said.setdefault(key, event) is not event:\n",
        "            if False:\n",
        "tests/refresh/runs/test_claims.py::test_a_run_works_round_by_round_and_leaves_no_claim",
    ),
    _mutant(
        "a failure that lasts is told in every run",
        "token_refresh/terminal/report.py",
        "        if self._only_news and result.outcome in FAILURES and not result.is_news:\n",
        "        if self._only_news and result.outcome is None:\n",
        f"{_FAILING}test_a_failure_is_reported_when_it_begins_and_only_counted_while_it_lasts",
    ),
    _mutant(
        "what a run may still need can be forgotten",
        "token_refresh/clients/waiting.py",
        "is_kept = any(entry.step is Step.SUPERSEDED for entry in entries)\n",
        "is_kept = bool(entries)\n",
        "tests/commands/test_recover.py::test_what_a_run_may_still_need_cannot_be_forgotten",
    ),
    _mutant(
        "no second row is heard when a client is refused",
        "token_refresh/refresh/schedule.py",
        "        client.probe = client.next_probe()\n",
        "        client.probe = None\n",
        f"{_FAULTS}test_one_uninstalled_location_is_flagged_and_no_other",
    ),
    _mutant(
        "one row of an unknown key stops all others",
        "token_refresh/refresh/listing.py",
        "self._is_key_right |= len(faults) < tried or any(",
        "self._is_key_right |= any(",
        f"{_FAULTS}test_one_row_of_an_unknown_key_leaves_the_others_fresh",
    ),
    _mutant(
        "the settings' client secret goes to a host that a row names",
        "token_refresh/refresh/jobs.py",
        "        if not endpoint.is_fixed:\n",
        "        if endpoint is None:\n",
        "tests/refresh/runs/test_default_secret.py::"
        "test_a_row_of_another_host_without_a_secret_of_its_own_makes_no_verb_send_ours",
    ),
    _mutant(
        "consent to the host of one row is consent for every row",
        "token_refresh/keys/inspection.py",
        "is_agreed(binding, hosts.get(row.location_id, ()))",
        "is_agreed(binding, [host for _, host in agreed])",
        "tests/commands/test_rotate_key.py::test_consent_to_one_row_is_none_to_a_cell_that_was_pasted_into_another",
    ),
    _mutant(
        "a part of a password is taken for the database's host",
        "token_refresh/settings.py",
        "or not _DATABASE_ADDRESS.fullmatch(rest):",
        'or not _DATABASE_ADDRESS.fullmatch(rest.rpartition("@")[2]):',
        "tests/test_settings.py::test_of_an_address_that_is_taken_no_part_of_user_and_password_is_the_host",
    ),
    _mutant(
        "a token is sent together with what was copied around it",
        "token_refresh/clients/credential.py",
        'if problem := paste_mistake(getattr(self, name) or ""):',
        'if problem := "":',
        "tests/commands/test_onboard_csv.py::"
        "test_what_was_copied_together_with_a_token_or_secret_is_named_and_nothing_is_sent",
    ),
    _mutant(
        "a run for a location that is not there ends well",
        "token_refresh/commands/refresh.py",
        "require_rows(context.store.store, context.job_factory, scope.locations, arguments.provider)",
        "require_rows(context.store.store, context.job_factory, (), arguments.provider)",
        "tests/commands/test_cli.py::test_a_location_without_a_row_is_refused_before_anything_is_refreshed",
    ),
    _mutant(
        "the path of an instance leads to another address",
        "providers/addresses.py",
        "(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*",
        "(?:/[A-Za-z0-9._~-]*)*",
        "tests/providers/test_requests.py::test_what_could_be_read_as_another_address_is_no_instance",
    ),
    _mutant(
        "a backup goes where a link of somebody else leads",
        "token_refresh/transfer/export.py",
        "        path = require_own_place(path)",
        "        path = path.resolve()",
        "tests/commands/test_export.py::test_a_link_in_a_shared_folder_is_not_followed",
    ),
    _mutant(
        "a provider that moves takes its rows' cells along",
        "token_refresh/refresh/jobs.py",
        "Binding(endpoint.origin, provider.former_origins, endpoint.is_fixed)",
        "Binding(endpoint.origin, (), endpoint.is_fixed)",
        "tests/refresh/runs/test_pointed_elsewhere.py::"
        "test_rows_of_a_host_that_the_provider_gave_up_go_on_and_are_sealed_for_the_new_one",
    ),
    _mutant(
        "a failure is remembered after the recovery",
        "token_refresh/journal/failures.py",
        "recovered = [key for key in recovered if key in self._known()]",
        "recovered = [key for key in recovered if key not in self._known()]",
        f"{_FAILING}test_where_the_token_stays_the_same_a_recovery_ends_the_memory_of_a_failure_too",
    ),
    _mutant(
        "what a run finds of a row it does not know itself",
        "token_refresh/journal/failures.py",
        "            self._known()[one.row_key] = one\n",
        "            pass\n",
        f"{_FAILING}test_a_grant_that_a_replay_finds_dead_is_not_sent_by_the_daily_look_of_the_same_run",
    ),
    _mutant(
        "runs that come too rarely are told to nobody",
        "token_refresh/diagnosis/notices.py",
        "> RARE_RUNS * interval:",
        "> RARE_RUNS * interval * 1000:",
        "tests/commands/test_cli.py::test_cron_that_comes_more_rarely_than_the_settings_say_is_reported",
    ),
    _mutant(
        "a row that fails alarms nobody",
        "token_refresh/diagnosis/row_state.py",
        "ALARMS = (State.EXPIRED, State.LOGIN_NEEDED, State.FAILING)\n",
        "ALARMS = (State.EXPIRED, State.LOGIN_NEEDED)\n",
        "tests/commands/test_status_check.py::test_a_refused_client_whose_rows_are_not_marked_needs_attention",
    ),
    # The library: one refresh however many callers, and the end of a credential
    _mutant(
        "a row that was refreshed between look and claim is refreshed again",
        "token_refresh/library/tokens.py",
        ", still=token.is_of",
        "",
        f"{_MANAGER}test_a_row_that_was_refreshed_between_look_and_claim_is_not_refreshed_again",
    ),
    _mutant(
        "a store that goes away costs a token that lives",
        "token_refresh/library/tokens.py",
        "RunError, StoreError) as error",
        "RunError) as error",
        f"{_MANAGER}test_a_store_that_goes_away_does_not_cost_a_token_that_lives",
    ),
    _mutant(
        "a change takes tokens to another host",
        "token_refresh/clients/amendment.py",
        "    if row.encrypted_refresh or row.has_only_access_token:\n",
        "    if False:\n",
        f"{_CLIENTS}test_tokens_are_never_moved_to_another_host",
    ),
    _mutant(
        "a change sends a secret to a host that nobody allowed",
        "token_refresh/clients/amendment.py",
        "    if is_moved or change.client_secret is not None:",
        "    if is_moved:",
        f"{_CLIENTS}test_a_new_secret_is_not_encrypted_for_a_host_that_somebody_wrote_into_the_table",
    ),
    _mutant(
        "a registered client's secret goes to a host that nobody allowed",
        "token_refresh/clients/registration.py",
        "        check_agreement(mistakes, endpoint, allowed)\n",
        "",
        f"{_CLIENTS}test_a_token_host_that_nobody_allowed_is_refused",
    ),
    _mutant(
        "a customer's login of another account goes over the one in the row",
        "token_refresh/clients/row_login.py",
        "        if conflict(context, entry, entered, row, may_replace=True):\n",
        "        if False:\n",
        f"{_ROW_LOGINS}test_the_login_of_another_account_is_refused_unless_the_row_is_empty",
    ),
    _mutant(
        "a login is stored in the row that has its row's id by now",
        "token_refresh/clients/row_login.py",
        "        if _client_of(candidate) != self.client:",
        "        if False:",
        f"{_ROW_LOGINS}test_a_row_that_is_not_there_is_not_logged_into",
    ),
    _mutant(
        "a customer brings a disabled client back",
        "token_refresh/clients/row_login.py",
        "    if row.status == STATUS_DISABLED and (",
        "    if False and (",
        f"{_ROW_LOGINS}test_a_disabled_client_is_neither_begun_nor_ended",
    ),
    _mutant(
        "a service takes a callback whose provider does not name itself",
        "token_refresh/clients/row_login.py",
        "iss_required=login.issuer is not None)",
        "iss_required=False)",
        f"{_ROW_LOGINS}test_a_callback_that_is_not_this_logins_sends_nothing",
    ),
    _mutant(
        "threads that ask for the same share no flight",
        "token_refresh/library/single_flight.py",
        "self._open.setdefault(key, flight)",
        "flight",
        "tests/library/test_single_flight.py::test_followers_get_what_the_leader_gets",
    ),
    _mutant(
        "a callback with another login's state is taken",
        "token_refresh/clients/login/attempt.py",
        "state is not None and not hmac.compare_digest(s256(state), self.state_hash)",
        "False",
        _FORGED,
    ),
    _mutant(
        "a callback without a state is taken",
        "token_refresh/clients/login/attempt.py",
        "state is None and not without_state",
        "False",
        _FORGED,
    ),
    _mutant(
        "a second callback is taken",
        "token_refresh/clients/login/attempt.py",
        "        if not self._answered.acquire(blocking=False):",
        "        if False:",
        f"{_ATTEMPT}test_a_second_callback_is_not_used_whatever_its_code",
    ),
    _mutant(
        "a login is answered after more than ten minutes",
        "token_refresh/clients/login/attempt.py",
        "now > self.ends_at",
        "False",
        f"{_ATTEMPT}test_a_callback_of_eleven_minutes_later_is_not_used",
    ),
    _mutant(
        "another provider's answer is taken",
        "token_refresh/clients/login/attempt.py",
        " and issuer != own_issuer",
        " and False",
        _FORGED,
    ),
    _mutant(
        "of two states in a callback the last one counts",
        "token_refresh/clients/login/attempt.py",
        "len(members) < len(pairs)",
        "False",
        _FORGED,
    ),
    _mutant(
        "a callback may name any host",
        "token_refresh/clients/login/attempt.py",
        "bool(hosts) and not named <= hosts",
        "False",
        _FORGED,
    ),
    _mutant(
        "Shopify's signature is not looked at",
        "providers/shopify.py",
        '        if not hmac.compare_digest(wanted.encode(), callback.get("hmac", "").lower().encode()):\n',
        '        if not callback.get("hmac"):\n',
        _FORGED,
    ),
    _mutant(
        "a page for any name of this machine takes a callback",
        "token_refresh/clients/login/loopback.py",
        '        if self.headers.get("Host", "").lower() not in loopback.hosts:',
        "        if False:",
        _FORGED,
    ),
    _mutant(
        "the code stays in the browser's history",
        "token_refresh/clients/login/loopback.py",
        '        return 303, "", page_path\n',
        '        return *page, ""\n',
        _FORGED,
    ),
    _mutant(
        "a code is sent to whoever has localhost's port on ::1",
        "token_refresh/clients/login/loopback.py",
        "                if self._servers and error.errno in _NO_IPV6:\n",
        "                if self._servers:\n",
        f"{_LOGINS}test_a_port_in_use_on_either_address_of_localhost_is_said_before_anybody_logs_in",
    ),
    _mutant(
        "what a provider says of a code is told with the code",
        "token_refresh/clients/login/redemption.py",
        ", candidate.credential.client_secret, *secrets)",
        ", candidate.credential.client_secret)",
        f"{_LOGINS}test_what_the_provider_says_of_a_refused_code_is_shown_without_the_code",
    ),
    _mutant(
        "a login's answer that the disk refused is forgotten",
        "token_refresh/clients/login/redemption.py",
        "    if not_saved is not None:\n",
        "    if False:\n",
        f"{_LOGIN}test_an_answer_that_the_journals_disk_refuses_is_kept_beside_it_and_stored_by_the_next_run",
    ),
    _mutant(
        "a login is put aside where a run refreshed its row meanwhile",
        "token_refresh/clients/login/redemption.py",
        " or journal.spent_at(entry.cell.split()) is not None\n",
        "\n",
        f"{_LOGIN}test_a_run_that_refreshes_the_row_while_the_login_waits_costs_the_login_nothing",
    ),
    _mutant(
        "a login replaces what somebody else brought meanwhile",
        "token_refresh/clients/login/redemption.py",
        '    return "" if may_replace or is_agreed else ',
        '    return "" if True else ',
        f"{_LOGINS}test_a_credential_that_somebody_else_brings_meanwhile_takes_a_yes_of_its_own",
    ),
    _mutant(
        "a login of another account goes over the one in the row",
        "token_refresh/clients/login/redemption.py",
        '    if known and account not in ("", known, agreed):\n',
        "    if False:\n",
        f"{_LOGINS}test_the_login_of_another_account_over_a_row_takes_a_yes_of_its_own",
    ),
    _mutant(
        "nobody looks whose a login is whose token is traded",
        "token_refresh/clients/login/redemption.py",
        "login.account_in(content, params) or first_account",
        "login.account_in(content, params)",
        f"{_LOGINS}test_the_account_of_a_login_whose_token_is_traded_is_that_of_the_first_answer",
    ),
    _mutant(
        "a login that is in its row is taken for another's",
        "token_refresh/clients/login/redemption.py",
        "            if entered.refresh_token and _is_stored(",
        "            if False and _is_stored(",
        f"{_LOGIN}test_a_login_that_is_killed_anywhere_is_stored_by_the_next_run_or_granted_nothing",
    ),
    _mutant(
        "a login's answer counts as sent again while it is stored",
        "token_refresh/clients/admission.py",
        "        begun = self._begun(candidate) if kept_by is None else None\n",
        "        begun = self._begun(candidate)\n",
        f"{_LOGIN}test_a_login_that_is_killed_anywhere_is_stored_by_the_next_run_or_granted_nothing",
    ),
    _mutant(
        "a login is put aside where the store is away",
        "token_refresh/clients/login/redemption.py",
        "    except (AdmissionError, ProviderError):\n        journal.mark",
        "    except Exception:\n        journal.mark",
        f"{_LOGIN}test_a_login_whose_table_is_away_behind_the_exchange_is_stored_by_the_next_run",
    ),
    _mutant(
        "a token that lives an hour is stored for one that was traded",
        "token_refresh/clients/login/redemption.py",
        "    if isinstance(provider, ShortLived) and answer.is_expiry_assumed:\n",
        "    if False:\n",
        f"{_LOGIN}test_a_login_that_is_killed_before_its_token_is_traded_stores_none",
    ),
    _mutant(
        "what a killed call stored is stored once more, over what was made of it since",
        "token_refresh/clients/admission.py",
        "            if self._is_overtaken(candidate, entry):\n                continue\n",
        "",
        f"{_CUT_OFF}test_what_a_killed_call_stored_does_not_go_over_what_was_made_of_it_since",
    ),
    _mutant(
        "what a killed call stored is put back by recover when it is used up",
        "token_refresh/clients/admission.py",
        "        if self._is_overtaken(candidate, entry):\n            what",
        "        if False:\n            what",
        f"{_CUT_OFF}test_what_a_killed_call_stored_and_runs_used_is_not_put_back_where_the_row_has_no_credential_any_more",
    ),
    _mutant(
        "a signal cuts off the request that brings the tokens of a device",
        "token_refresh/clients/login/device.py",
        "            return finish(redeem, context, candidate, request,",
        "            return redeem(context, candidate, request,",
        "tests/clients/login/test_terminal.py::test_a_signal_during_the_request_that_brings_the_tokens_of_a_device_costs_none",
    ),
    _mutant(
        "nobody has to agree to the host that a line names",
        "token_refresh/clients/admission.py",
        "        require_agreement(candidate.endpoint, terms.hosts)\n",
        "",
        "tests/commands/test_onboard_csv.py::test_host_that_nobody_allowed_is_sent_nothing",
    ),
    _mutant(
        "a login is not journalled before the store is asked",
        "token_refresh/clients/admission.py",
        "self._store_login(candidate, note_intent(), granted)",
        "self._store(candidate, None, granted, LOGIN_ATTEMPTS)",
        f"{_MANAGER}test_a_login_that_the_store_does_not_take_waits_sealed_for_the_next_run",
    ),
    _mutant(
        "a journal that is open is opened and closed beside SQLite",
        "token_refresh/journal/file.py",
        "    if not path.exists():",
        "    if True:",
        f"{_JOURNAL}test_a_journal_of_this_process_that_another_reads_keeps_its_locks",
    ),
    _mutant(
        "a credential that was written before the process died is not recognised",
        "token_refresh/clients/admission.py",
        "        if self._is_saved(candidate, entry):\n            return _ends(",
        "        if row is None:\n            return _ends(",
        f"{_CUT_OFF}test_a_write_that_was_killed_before_it_was_noted_is_recognised_by_the_next_run",
    ),
    _mutant(
        "of two credentials that wait the older one wins",
        "token_refresh/refresh/recovery.py",
        "(one.started_at, one.id), reverse=True)",
        "(one.started_at, one.id))",
        f"{_CUT_OFF}test_of_two_logins_that_the_store_did_not_take_the_newer_one_wins",
    ),
    _mutant(
        "a credential that waits does not follow the row that it replaces",
        "token_refresh/refresh/write_back.py",
        "            if not self.replaced_cells.isdisjoint(job.cell) and",
        "            if False and",
        f"{_CUT_OFF}test_a_row_that_is_refreshed_while_its_onboarding_waits_gets_the_newer_grant_all_the_same",
    ),
    _mutant(
        "what waits of a client outlives its revocation",
        "token_refresh/clients/removal.py",
        "            self._forget(row, name, Step.SUPERSEDED, Step.UNREAD)",
        "            pass",
        f"{_OFFBOARD}test_what_was_superseded_is_forgotten_also_where_the_row_is_empty_already",
    ),
    _mutant(
        "a client is revoked while its onboarding waits",
        "token_refresh/clients/settled.py",
        "            if is_of and (entry.admission or is_under_way):\n",
        "            if is_of and is_under_way and not entry.admission:\n",
        f"{_OFFBOARD}test_nothing_in_the_journal_brings_back_what_was_revoked",
    ),
    _mutant(
        "a claim outlives the credential that it was for",
        "token_refresh/clients/row.py",
        ", ends_claim=is_whole",
        "",
        f"{_TOGETHER}test_an_onboarding_elsewhere_ends_the_claim_of_a_host_that_is_gone",
    ),
    _mutant(
        "the claims of a dead process outlive recovery",
        "token_refresh/stores/database/store.py",
        "        mine = sa.or_(owner == claimant.owner, owner == claimant.inherited)\n",
        "        mine = sa.or_(owner == claimant.owner, sa.false())\n",
        f"{_TOGETHER}test_what_ends_a_refresh_that_was_killed_ends_its_claim",
    ),
    _mutant(
        "the threads of a run end with the daemon that began it",
        "token_refresh/base/threads.py",
        "target=self._serve, daemon=False)",
        "target=self._serve)",
        f"{_THREADS}test_refreshes_in_daemon_threads_are_finished_when_the_program_ends",
    ),
    _mutant(
        "an onboarding's request ends with the daemon that began it",
        "token_refresh/clients/proof.py",
        "    if not threading.current_thread().daemon:\n",
        "    if threading.current_thread():\n",
        f"{_THREADS}test_onboardings_in_daemon_threads_keep_their_answers_when_the_program_ends",
    ),
    _mutant(
        "the threads of a run leave no room for the watchdog",
        "token_refresh/refresh/loop.py",
        "            with Threads(1):  # whose",
        "            with contextlib.nullcontext():  # whose",
        f"{_THREADS}test_a_run_that_can_start_only_some_threads_goes_on_with_those",
    ),
    _mutant(
        "a grant is revoked before an earlier run's answer is stored",
        "token_refresh/clients/settled.py",
        "blocked = store_leftovers(self._context, self._emit)",
        "blocked = frozenset()",
        f"{_OFFBOARD}test_tokens_that_an_earlier_run_left_are_stored_first",
    ),
    _mutant(
        "the token of before the wait is revoked",
        "token_refresh/clients/settled.py",
        "            row, _ = self._row(location_id, name)\n",
        "",
        f"{_OFFBOARD}test_who_is_refreshing_the_row_is_waited_for_and_the_newest_token_revoked",
    ),
    _mutant(
        "an access token alone is forgotten and lives on",
        "token_refresh/clients/removal.py",
        "            if at_provider and has_token:\n",
        "            if at_provider and row.encrypted_refresh:\n",
        f"{_OFFBOARD}test_an_access_token_alone_is_revoked_where_the_provider_takes_it",
    ),
    _mutant(
        "a failing provider counts as having revoked",
        "providers/revocation.py",
        "    if raw.status >= SERVER_ERROR:\n",
        "    if raw.status >= 600:\n",
        f"{_OFFBOARD}test_a_provider_that_is_failing_has_left_the_grant_alive",
    ),
    _mutant(
        "a revocation goes beside what a row chose",
        "providers/revocation.py",
        "not (bound.is_fixed and endpoint.is_fixed)",
        "not endpoint.is_fixed",
        "tests/providers/test_revocation.py::test_a_row_that_moves_one_host_sends_nothing_to_the_other",
    ),
    _mutant(
        "a full disk where an unproven token came is called a mistake of the program",
        "token_refresh/refresh/loop.py",
        "            self._writeback.journal_error = error\n            self._writeback.add_unusable(UnusableRow(",
        "            self._writeback.add_unusable(UnusableRow(",
        f"{_UNPROVEN}test_where_the_disk_is_full_when_it_came_the_run_says_so_and_the_next_one_stores_it",
    ),
    _mutant(
        "an expiry that a wrong clock wrote is believed",
        "token_refresh/refresh/due.py",
        "        return None if self.is_impossible(row, provider, now) else row.access_token_expiry\n",
        "        return row.access_token_expiry\n",
        f"{_CLOCKS}test_a_lost_answer_does_not_wait_for_the_end_of_an_access_token_that_a_wrong_clock_wrote",
    ),
    _mutant(
        "a copied state folder goes on with an onboarding",
        "token_refresh/clients/admission.py",
        "            self._context.identity.require_alone()",
        "            pass",
        f"{_IDENTITY}test_a_copied_state_folder_leaves_an_onboarding_that_was_cut_off_to_the_original",
    ),
    _mutant(
        "what is spent is looked up before the entries that are ended with it",
        "token_refresh/refresh/listing.py",
        "        self._context, self._dry_run, journal = context, dry_run, context.journal\n",
        "        self._context, self._dry_run, journal = context, dry_run, context.journal\n"
        "        spent = journal.spent({token for one in found if isinstance(one, Job) for token in one.token})\n"
        "        journal.spent = lambda tokens: spent\n",
        f"{_IDENTITY}test_a_token_that_a_run_on_the_base_before_spends_between_two_looks_at_its_journal_is_not_sent",
    ),
    _mutant(
        "only the first of many tokens are looked up",
        "token_refresh/journal/entries.py",
        "range(0, len(wanted), MOST_VALUES)",
        "range(0, min(len(wanted), 1), MOST_VALUES)",
        f"{_JOURNAL}test_what_is_spent_among_many_tokens_is_found_wherever_it_stands",
    ),
    _mutant(
        "what the spare folder has for the base before a restore is unknown in the restored one",
        "token_refresh/journal/entries.py",
        "            if entry.lacks_answer:\n                left",
        "            if False:\n                left",
        f"{_IDENTITY}test_an_answer_in_the_spare_folder_is_stored_in_the_base_that_was_restored",
    ),
    _mutant(
        "the token before an unproven one is unknown in the base that was restored",
        "token_refresh/journal/entries.py",
        "for one in others if one.previous]",
        "for one in others if not one]",
        f"{_IDENTITY}test_a_sample_in_a_base_that_was_restored_gives_way_to_the_token_before",
        f"{_IDENTITY}test_a_kept_refusal_of_a_sample_is_not_the_end_of_a_row_in_a_base_that_was_restored",
    ),
    _mutant(
        "what a replay ended of the base before a restore comes again",
        "token_refresh/journal/entries.py",
        "UNION SELECT name FROM looks",
        "",
        f"{_IDENTITY}test_a_refusal_that_the_base_before_a_restore_kept_is_over_with_a_replay",
        f"{_IDENTITY}test_an_answer_of_the_base_before_a_restore_that_somebody_gives_up_is_over",
    ),
    _mutant(
        "what a row that was imported again waits by may be forgotten",
        "token_refresh/clients/waiting.py",
        "    return not any(_may_hold(context, row, entry) for row in rows if row.encrypted_refresh)\n",
        "    return True\n",
        "tests/commands/test_ways_out.py::"
        "test_what_a_row_waits_by_that_was_deleted_and_imported_again_is_not_forgotten",
    ),
    _mutant(
        "where a replay kills, the token before an unproven one goes first once a restore has put it back",
        "token_refresh/refresh/recovery.py",
        "        if entry.answer and not is_tried and any(",
        "        if not back and any(",
        f"{_UNPROVEN}test_where_replay_kills_the_family_an_unproven_token_is_tried_before_the_one_before_that_a_restore_put_back",
    ),
    _mutant(
        "a rotation is done although the journal of the base before a restore needs the old key",
        "token_refresh/keys/rotation.py",
        "elsewhere=sorted(key_ids(self._journal.entries_elsewhere()) - {self._key_id}),",
        "elsewhere=[],",
        "tests/refresh/runs/test_identity.py::"
        "test_a_rotation_is_not_done_while_the_journal_of_the_base_before_needs_the_old_key",
    ),
    _mutant(
        "an unproven token counts as refused once a restore has put the one before back",
        "token_refresh/refresh/recovery.py",
        "mark_lost(entry.id, is_refuted=is_tried)",
        "mark_lost(entry.id)",
        f"{_UNPROVEN}test_where_a_second_use_is_only_refused_an_unproven_token_is_tried_after_the_one_before_that_a_restore_put_back",
    ),
    _mutant(
        "after the refusal of a token only a pair that came for it is tried, not a token alone",
        "token_refresh/refresh/exchange.py",
        "found = provider.pair_in(raw) or provider.read_answer(raw)\n            token = found.refresh_token or sent\n",
        "found = provider.pair_in(raw)\n            token = found.refresh_token if found is not None else sent\n",
        f"{_UNPROVEN}test_where_a_second_use_is_only_refused_an_unproven_token_is_tried_after_the_one_before_that_a_restore_put_back",
    ),
    _mutant(
        "an unproven token whose own answer waits is tried once more where a restore has put the one before back",
        "token_refresh/refresh/recovery.py",
        "        is_tried = any(one.token in entry.successor.split() for one in noted)\n",
        "        is_tried = False\n",
        f"{_UNPROVEN}test_a_token_before_whose_successors_answer_was_stored_over_it_counts_as_used",
    ),
    _mutant(
        "the token before that a replay puts into a restored base counts as replaced there",
        "token_refresh/refresh/recovery.py",
        "tuple(context.journal.adopt(one, row.key) for one in led_to)",
        "tuple(led_to)",
        f"{_IDENTITY}test_a_kept_refusal_of_a_sample_is_not_the_end_of_a_row_in_a_base_that_was_restored",
    ),
    _mutant(
        "the page of an outage that the base before a restore kept counts as newer tokens",
        "token_refresh/refresh/listing.py",
        "by_token([one for one in others if not one.lacks_answer] + kept)",
        "by_token([one for one in others if one.answer] + kept)",
        f"{_IDENTITY}test_a_row_of_a_restored_base_whose_provider_was_down_before_is_refreshed",
    ),
    _mutant(
        "what the base before a restore knows of a token outlives each refresh in which the token stays",
        "token_refresh/refresh/listing.py",
        "        return entry if entry.sent_at > last or last > self._context.clock.now() else None\n",
        "        return entry\n",
        f"{_IDENTITY}test_what_the_base_before_a_restore_knows_of_a_token_that_stays_is_over_with_the_next_refresh",
    ),
    _mutant(
        "a row whose last refresh has a time that was ahead forgets what the base before a restore lost",
        "token_refresh/refresh/listing.py",
        ' or job.provider.rotates == "always":\n',
        ":\n",
        f"{_IDENTITY}test_an_answer_that_was_lost_is_known_in_the_base_that_was_restored",
    ),
    _mutant(
        "a token is sent again that another base's journal has the answer to",
        "token_refresh/refresh/listing.py",
        "        elif kept is not None:\n",
        "        elif False:\n",
        f"{_IDENTITY}test_what_waits_for_a_base_is_stored_in_the_one_it_was_restored_to",
    ),
    _mutant(
        "an answer that was lost is unknown in the base that was restored",
        "token_refresh/refresh/listing.py",
        "by_token([one for one in others if one.lacks_answer] + lost)",
        "by_token(lost)",
        f"{_IDENTITY}test_an_answer_that_was_lost_is_known_in_the_base_that_was_restored",
    ),
    _mutant(
        "a lost answer of the base before a restore is not noted in its own journal",
        "token_refresh/refresh/listing.py",
        "            entry = self._noted(entry, row.key)\n",
        "",
        f"{_IDENTITY}test_a_request_of_a_clock_that_was_ahead_is_waited_for_once_where_the_base_was_restored_since",
    ),
    _mutant(
        "a dry run notes what the journal of another base keeps",
        "token_refresh/refresh/listing.py",
        "(lambda entry, _: entry) if dry_run else journal.adopt",
        "journal.adopt",
        f"{_IDENTITY}test_a_dry_run_notes_nothing_of_a_base_that_was_restored",
    ),
    _mutant(
        "an answer to a token that the row had for a while is nobody's once the one before is back",
        "token_refresh/refresh/recovery.py",
        "[entry, *led_to]",
        "[entry]",
        f"{_UNPROVEN}test_where_a_copy_of_the_state_folder_put_the_token_before_back_what_its_successor_brought_is_stored",
    ),
    _mutant(
        "a lost answer is forgotten where another client got the key of its row",
        "token_refresh/refresh/listing.py",
        "        of_row = self._lost_of_row.get((row.key, row.location_id))\n",
        "        of_row = next((one for key, one in self._lost_of_row.items() if key[0] == row.key), None)\n",
        "tests/refresh/runs/test_recovery.py::"
        "test_a_lost_answer_is_remembered_although_another_client_got_the_key_of_its_row",
    ),
    _mutant(
        "a loss that is noted from the base before a restore takes the place of what that base gets later",
        "token_refresh/journal/entries.py",
        "secrets.token_hex(8) if entry.lacks_answer else entry.uid\n",
        "entry.uid\n",
        f"{_IDENTITY}test_an_answer_that_the_base_before_gets_after_the_restored_one_noted_the_loss_is_not_hidden_by_that_note",
        f"{_IDENTITY}test_an_answer_outlives_the_take_over_of_two_journals_that_note_one_loss",
    ),
    _mutant(
        "the refusal of a sample counts for the token before it that is in the row again",
        "token_refresh/refresh/recovery.py",
        "    is_proof = answer.verdict is Verdict.GRANTED and answer.refresh_token is not None",
        "    is_proof = True",
        f"{_UNPROVEN}test_where_somebody_puts_the_token_before_back_a_kept_refusal_of_its_sample_does_not_count_for_it",
        f"{_UNPROVEN}test_where_the_token_before_was_put_back_what_its_successor_brought_without_a_proof_does_not_cost_the_successor",
    ),
    _mutant(
        "a success without a refresh token gives up the one that it was for where the one before is back in the row",
        "token_refresh/refresh/recovery.py",
        " and answer.refresh_token is not None  # which goes over any before",
        "",
        f"{_UNPROVEN}test_where_the_token_before_was_put_back_what_its_successor_brought_without_a_proof_does_not_cost_the_successor",
    ),
    _mutant(
        "a token that was given up is not known to be used although what its successor brought is stored over it",
        "token_refresh/refresh/recovery.py",
        "context.journal.unproven() + context.journal.entries(Step.LOST)",
        "context.journal.unproven()",
        f"{_UNPROVEN}test_a_token_before_whose_successors_answer_was_stored_over_it_counts_as_used",
    ),
    _mutant(
        "of two clients with one sample one gets the token of the other put back",
        "token_refresh/journal/entries.py",
        " if entry.location_id == of}",
        "}",
        f"{_UNPROVEN}test_where_two_rows_get_one_sample_each_gets_its_own_token_before_back",
    ),
    _mutant(
        "a restored folder is taken for the original where its file has the same inode",
        "token_refresh/journal/installation.py",
        "{generation[:4].hex()}",
        "",
        "tests/journal/test_installation.py::test_a_restored_folder_is_noticed_although_its_files_get_the_inodes_of_"
        "those_that_were_deleted",
    ),
    _mutant(
        "the backslashes of rich text keep a cell from opening",
        "token_refresh/stores/airtable/cells.py",
        'text.replace("\\\\", "") if',
        "text if",
        f"{_COLUMN_TYPES}test_what_rich_text_left_in_a_row_keeps_its_new_tokens_from_nobody",
    ),
    # Agencies
    _mutant(
        "a row whose answer was lost asks no agency",
        "token_refresh/refresh/write_back.py",
        "verdict in (Verdict.DEAD_GRANT, Verdict.UNCLEAR) and not answer.brings_token",
        "verdict is Verdict.DEAD_GRANT and not answer.brings_token",
        f"{_AGENCIES}test_a_location_whose_answer_was_lost_gets_another_pair_in_the_same_run",
    ),
    _mutant(
        "a dead pair that an agency was about to replace stays dead after a crash",
        "token_refresh/refresh/recovery.py",
        " and not job.agency)",
        ")",
        f"{_AGENCIES}test_a_run_that_is_killed_around_a_minted_pair_loses_nothing",
    ),
    _mutant(
        "a minted pair does not go into the entry of the row",
        "token_refresh/clients/agencies.py",
        "lost_entry=held.entry_id",
        "lost_entry=None",
        f"{_AGENCIES}test_a_location_whose_pair_is_dead_gets_another_in_the_same_run",
    ),
    _mutant(
        "a pair of an agency's location is read before it is in the journal",
        "token_refresh/clients/installs.py",
        "entry_id, raw = redemption.ask(context, candidate, agency.mint_request(location_id))",
        "entry_id, raw = -1, context.transport.post(agency.mint_request(location_id))",
        f"{_AGENCIES}test_a_location_that_is_cut_off_while_it_is_added_is_saved_by_the_next_run",
    ),
    _mutant(
        "a location whose grant was dead is never tried again although its agency lives",
        "token_refresh/refresh/listing.py",
        "or (isinstance(job, Job) and bool(job.agency))",
        "",
        f"{_AGENCIES}test_a_location_that_lost_the_app_needs_it_again_and_then_follows_by_itself",
    ),
    # Who may use the HTTP service
    _mutant(
        "a key opens by its id, whatever its secret",
        "token_refresh/access/api_keys.py",
        "        if row is None or not is_right:\n",
        "        if row is None:\n",
        f"{_ACCESS}test_a_text_that_is_not_quite_a_key_is_none",
    ),
    _mutant(
        "a key for one location opens every one",
        "token_refresh/access/api_keys.py",
        'f"{_OF_ONE}{location_id}" in self.scopes',
        "any(one.startswith(_OF_ONE) for one in self.scopes)",
        f"{_ACCESS}test_no_scope_but_admin_implies_another",
    ),
    _mutant(
        "a link that is over still opens",
        "token_refresh/access/links.py",
        "LINKS.c.token_hash == _hash(token), LINKS.c.expires_at > self._clock.now())",
        "LINKS.c.token_hash == _hash(token), LINKS.c.expires_at.is_not(None))",
        f"{_ACCESS}test_a_link_is_for_its_row_until_its_end",
    ),
    _mutant(
        "a link outlives its row, whose number another row gets",
        "token_refresh/stores/database/store.py",
        "(connection.execute(own), connection.execute(one))",
        "connection.execute(one)",
        "tests/commands/test_onboard_link.py::test_a_link_ends_when_its_row_is_deleted",
    ),
    _mutant(
        "two callbacks of one login both go on",
        "token_refresh/access/pending_logins.py",
        "connection.execute(drop).rowcount) == 1\n",
        "connection.execute(drop).rowcount) >= 0\n",
        f"{_ACCESS}test_of_two_callbacks_at_once_one_may_go_on",
    ),
    _mutant(
        "any browser ends a login, whoever began it",
        "token_refresh/service/logins.py",
        "    if login is None or not is_own or not await",
        "    if login is None or not await",
        f"{_CALLBACKS}test_a_callback_in_another_browser_is_not_taken_and_the_login_goes_on",
    ),
    _mutant(
        "a link is for any number of logins",
        "token_refresh/service/logins.py",
        "            service.links.end(link_id)\n",
        "            pass\n",
        f"{_CALLBACKS}test_opening_a_link_spends_nothing_and_storing_tokens_does",
    ),
    _mutant(
        "a link opens the login of every client",
        "token_refresh/service/logins.py",
        "    if found is not None and found.row_id != client_id:\n",
        "    if False:\n",
        f"{_CALLBACKS}test_every_bad_link_is_the_same_403",
    ),
    _mutant(
        "a link's number opens another client's row",
        "token_refresh/service/logins.py",
        "    if (view.location_id, view.provider) != (link.location_id, link.provider):",
        "    if False:",
        f"{_CALLBACKS}test_a_link_does_not_open_what_somebody_made_of_its_row_in_the_table",
    ),
    _mutant(
        "a body is read before the key is judged",
        "token_refresh/service/routing.py",
        "                await check(request)\n",
        "                pass\n",
        "tests/service/test_bad_callers.py",
    ),
    _mutant(
        "keys may be guessed without end",
        "token_refresh/service/access.py",
        "            self._wrong.count(address)\n",
        "",
        f"{_KEYS}test_twenty_wrong_keys_a_minute_are_answered_and_no_more",
    ),
    _mutant(
        "the service answers under any name",
        "token_refresh/service/limits.py",
        "if len(hosts) != 1 or host_in(hosts[0]) not in self._allowed_hosts:",
        "if len(hosts) != 1:",
        "tests/service/test_limits.py::test_a_request_under_another_name_does_not",
    ),
    _mutant(
        "the end of the service cuts open requests off",
        "token_refresh/service/server.py",
        "timeout_graceful_shutdown=OPEN_REQUESTS_SECONDS,",
        "timeout_graceful_shutdown=0,",
        "tests/service/test_server.py::test_at_the_end_an_open_request_is_answered_and_no_new_one_taken",
    ),
    _mutant(
        "another site sends the forms of the page",
        "token_refresh/service/page.py",
        "            session.require(form)\n",
        "            pass\n",
        f"{_PAGE}test_a_form_that_is_not_of_this_session_does_nothing",
    ),
    _mutant(
        "whoever may read the page may do everything there",
        "token_refresh/service/page.py",
        ".require(scope, view.location_id)",
        '.require("read")',
        f"{_PAGE}test_a_control_is_there_for_who_may_use_it_and_refused_to_all_others",
    ),
    _mutant(
        "a session outlives its twelve hours",
        "token_refresh/service/sessions.py",
        "return session if self._clock.now().timestamp() < session.ends_at else None",
        "return session",
        f"{_PAGE}test_a_session_ends_after_twelve_hours",
    ),
    _mutant(
        "what is stored becomes a part of the page",
        "token_refresh/service/rendering.py",
        "autoescape=True",
        "autoescape=False",
        "tests/service/test_rendering.py::test_what_is_stored_or_asked_stays_text",
    ),
)


def main(argv: Sequence[str]) -> int:
    """Break one step after the other; print what noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only the steps that contain one of these")
    words = parser.parse_args(argv).words
    chosen = [one for one in MUTANTS if not words or any(word in one.step for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(COPIES) as pool:
        Path(folder).chmod(0o755)  # what some tests do as another user reads the program, too
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(COPIES):
            copies.put(Path(shutil.copytree(ROOT, Path(folder) / str(number), ignore=_SKIPPED, symlinks=True)))
        unbroken = pool.submit(
            _tried, Mutant("nothing", (), tuple({test for one in chosen for test in one.tests})), copies
        )
        broken = [pool.submit(_tried, one, copies) for one in chosen]
        survivors = 0
        for mutant, end in zip(chosen, broken, strict=True):
            noticed = end.result()
            survivors += noticed is None
            print(f"{mutant.step:64} {noticed or 'SURVIVED'}", flush=True)
        if (red := unbroken.result()) is not None:
            print(f"the tests are red without any break: {red}")
            return 1
    print(f"{len(chosen)} steps broken, {survivors} unnoticed")
    return 1 if survivors else 0


def _tried(mutant: Mutant, copies: queue.SimpleQueue[Path]) -> str | None:
    """The first test that went red in a copy with this break; None where all stayed green."""
    copy = copies.get()
    try:
        for edit in mutant.edits:
            (copy / edit.file).write_text(edit.applied(copy))
        return _red(copy, mutant.tests, PATIENCE_SECONDS if mutant.edits else None)
    finally:
        for edit in mutant.edits:
            shutil.copy2(ROOT / edit.file, copy / edit.file)
        copies.put(copy)


def _red(copy: Path, tests: Sequence[str], patience_seconds: float | None) -> str | None:
    options = ["-x", "-q", "-rfE", "--no-header", "-p", "no:cacheprovider", "--hypothesis-profile", "long"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    # A file that is changed within a second would be taken for the one that was compiled before.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=patience_seconds
        )
    except subprocess.TimeoutExpired:
        return f"no end within {patience_seconds} s"
    if ended.returncode == 0:
        return None
    red = _RED.search(ended.stdout)
    if ended.returncode != 1 or red is None:
        raise RuntimeError(f"pytest ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    if patience_seconds is None:
        print(ended.stdout)
    return red[1].rpartition("::")[2]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
