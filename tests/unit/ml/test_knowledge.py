"""Retrieval over runbooks and write-ups: passages, terms, ranking, reasons, confidence, scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.knowledge.confidence import Calibration, Evidence, fit
from ml.knowledge.evaluation import measure, measured, rank, trade
from ml.knowledge.incidents import FailingSaga, question
from ml.knowledge.index import Document, Index
from ml.knowledge.text import PASSAGE_CHARACTERS, first_heading, front_title, passages, terms

RUNBOOKS = (
    Document(
        "volume",
        "KubePersistentVolumeFillingUp",
        "# KubePersistentVolumeFillingUp\n\n## Meaning\n\nA disk that a pod claimed has little room left.\n\n"
        "## Mitigation\n\nDelete old data, or resize the claim.\n\n```\nkubectl get pvc\n```\n",
    ),
    Document("leader", "etcdNoLeader", "# etcdNoLeader\n\n## Meaning\n\nA member has no leader, so writes fail.\n"),
    Document("skew", "NodeClockSkewDetected", "# Skew\n\n## Meaning\n\nThe clock of a node is out of sync.\n"),
    Document("empty", "", ""),
)


class TestText:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("KubePodCrashLooping", ["kube", "pod", "crash", "looping", "kubepodcrashlooping"]),
            ("kube_pod_status", ["kube", "pod", "status"]),
            ("etcdGRPCRequestsSlow", ["etcd", "grpc", "request", "slow", "etcdgrpcrequestsslow"]),
            ("HTTP 5xx errors", ["http", "5xx", "error"]),
            ("the pods are not ready", ["pod", "not", "ready"]),
            ("isthmus.ingress/3", ["isthmus", "ingress"]),
            ("Zähler über Größe", ["zähler", "über", "größe"]),
            ("", []),
        ],
    )
    def test_identifiers_and_sentences_share_terms(self, text: str, expected: list[str]) -> None:
        assert terms(text) == expected

    def test_a_passage_knows_the_headings_above_it(self) -> None:
        found = passages("# Title\n\nlead\n\n## Diagnosis\n\n### Slow disk\n\nlook\n\n## Mitigation\n\nmend\n")
        assert [(one.heading, one.text) for one in found] == [
            ("", "lead"),
            ("Diagnosis / Slow disk", "look"),
            ("Mitigation", "mend"),
        ]

    def test_front_matter_and_comments_are_no_passages(self) -> None:
        text = "---\ntitle: Kube API Down\nweight: 20\n---\n# KubeAPIDown\n<!-- a note -->\ntext\n"
        assert [one.text for one in passages(text)] == ["text"]
        assert (front_title(text), first_heading(text)) == ("Kube API Down", "KubeAPIDown")

    def test_a_line_of_code_is_no_heading(self) -> None:
        (found,) = passages("text\n\n```\n# not a heading\nkubectl get pods\n```\n")
        assert (found.heading, found.code) == ("", "# not a heading\nkubectl get pods")
        assert found.prose == "text"

    def test_a_long_section_is_cut_between_paragraphs(self) -> None:
        paragraph = "word " * (PASSAGE_CHARACTERS // 10)
        found = passages("\n\n".join([paragraph] * 7))
        assert len(found) > 2
        assert all(len(one.text) <= PASSAGE_CHARACTERS + len(paragraph) + 2 for one in found)
        assert " ".join(one.text for one in found).split() == ("word " * (PASSAGE_CHARACTERS // 10) * 7).split()

    @given(st.text(max_size=300))
    @settings(max_examples=25, deadline=None)
    def test_any_text_has_terms_and_passages(self, text: str) -> None:
        assert all(len(term) > 1 and term == term.lower() for term in terms(text))
        assert all(one.text.strip() or one.text == "" for one in passages(text))


class TestIndex:
    def test_an_alert_in_words_finds_the_runbook_named_by_an_identifier(self) -> None:
        answer = Index(RUNBOOKS).search("The persistent volume is filling up")
        assert answer.hits[0].document_id == "volume"

    def test_a_hit_has_provenance_and_reasons(self) -> None:
        hit = Index(RUNBOOKS).search("resize the claim of a persistent volume").hits[0]
        assert (hit.document_id, hit.title, hit.heading) == ("volume", "KubePersistentVolumeFillingUp", "Mitigation")
        assert "resize the claim" in hit.passage
        reasons = {reason.term: reason for reason in hit.reasons}
        assert "title" in reasons["volume"].fields
        assert reasons["resize"].fields == ("body",)
        assert sum(reason.share for reason in hit.reasons) == pytest.approx(1)
        assert [reason.share for reason in hit.reasons] == sorted((r.share for r in hit.reasons), reverse=True)

    def test_what_nobody_wrote_about_is_not_answered(self) -> None:
        index = Index(RUNBOOKS)
        assert index.search("souffle collapsed").hits == ()
        assert index.search("souffle collapsed").best() is None
        assert index.search("").hits == ()
        assert index.search("the of and").confidence == 0

    def test_terms_that_nobody_knows_lower_the_confidence(self) -> None:
        index = Index(RUNBOOKS)
        plain = index.search("clock skew detected")
        other = index.search("clock skew detected in the strawberry cake of my grandmother's birthday party")
        assert plain.hits[0].document_id == other.hits[0].document_id == "skew"
        assert other.confidence < plain.confidence

    def test_scores_are_those_of_the_search(self) -> None:
        index = Index(RUNBOOKS)
        scores, answer = index.scores(["no leader"])[0], index.search("no leader", limit=2)
        assert answer.hits[0].score == pytest.approx(scores.max())
        assert [document.id for document in index.documents][int(scores.argmax())] == answer.hits[0].document_id

    def test_order_does_not_hang_on_the_order_of_documents(self) -> None:
        forward, backward = Index(RUNBOOKS), Index(RUNBOOKS[::-1])
        for asked in ("persistent volume", "member without a leader", "clock out of sync"):
            assert [h.document_id for h in forward.search(asked).hits] == [
                h.document_id for h in backward.search(asked).hits
            ]

    def test_twins_do_not_lower_each_others_confidence(self) -> None:
        twin = Document("leader2", "etcdNoLeader", RUNBOOKS[1].text)
        with_twin, evidence = Index([*RUNBOOKS, twin]), Index(RUNBOOKS).evidence("etcd member has no leader")
        found = with_twin.evidence("etcd member has no leader")
        assert found is not None
        assert evidence is not None
        assert found[1].margin == pytest.approx(evidence[1].margin, abs=0.2)

    def test_a_title_may_come_from_the_text(self) -> None:
        index = Index([Document("a", "", "# Warehouse full\n\nno space\n"), Document("b", "", "plain words")])
        assert index.search("warehouse").hits[0].title == "Warehouse full"
        assert index.search("plain").hits[0].title == ""

    def test_two_documents_of_one_id_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"1 document ids occur more than once, the first is 'leader'"):
            Index([RUNBOOKS[1], RUNBOOKS[1]])

    def test_no_documents_have_no_answer(self) -> None:
        for documents in ([], [Document("empty", "", "")]):
            answer = Index(documents).search("anything")
            assert (answer.hits, answer.confidence) == ((), 0.0)

    @given(st.text(max_size=80))
    @settings(max_examples=25, deadline=None)
    def test_any_question_has_an_answer_of_the_right_form(self, asked: str) -> None:
        answer = Index(RUNBOOKS).search(asked)
        assert 0 <= answer.confidence <= 1
        scores = [hit.score for hit in answer.hits]
        assert scores == sorted(scores, reverse=True)


class TestConfidence:
    def test_it_is_learned_from_what_was_right(self) -> None:
        random = np.random.default_rng(3)
        coverage = random.random(400)
        right = random.random(400) < coverage
        learned = fit([Evidence(float(one), 0.1, 10, 50) for one in coverage], right)
        low, high = (learned.probability(Evidence(one, 0.1, 10, 50)) for one in (0.1, 0.9))
        assert low < 0.3
        assert high > 0.7

    def test_an_answer_is_given_from_a_threshold_on(self) -> None:
        sure = Calibration(9.0, 0, 0, 0, 0)
        unsure = Calibration(-9.0, 0, 0, 0, 0)
        assert Index(RUNBOOKS, calibration=sure).search("leader").best() is not None
        assert Index(RUNBOOKS, calibration=unsure).search("leader").best() is None
        assert Index(RUNBOOKS, calibration=unsure).search("leader").best(at_least=0.0) is not None


class TestEvaluation:
    def test_the_best_right_document_counts_and_ties_count_against_it(self) -> None:
        scores = np.array([0.5, 0.9, 0.7, 0.7])
        assert rank(scores, [1]) == 1
        assert rank(scores, [0, 2]) == 3
        assert rank(scores, [2, 3]) == 2

    def test_measures(self) -> None:
        assert measure(np.array([1, 2, 10, 1])) == {"hit1": 0.5, "hit5": 0.75, "mrr": pytest.approx(0.65)}

    def test_intervals_draw_groups(self) -> None:
        ranks = np.array([1] * 50 + [9] * 50)
        alone = measured(ranks, [str(at) for at in range(100)])["hit1"]
        paired = measured(ranks, ["a"] * 50 + ["b"] * 50)["hit1"]
        assert alone.low < alone.value == 0.5 < alone.high
        assert paired.high - paired.low > 2 * (alone.high - alone.low)

    def test_precision_against_coverage(self) -> None:
        points = trade(np.array([0.9, 0.6, 0.2]), np.array([True, False, True]), (0.0, 0.5, 0.95))
        assert [(round(p.coverage, 2), round(p.precision, 2)) for p in points[:2]] == [(1.0, 0.67), (0.67, 0.5)]
        assert np.isnan(points[2].precision)


class TestQuestion:
    def test_ids_addresses_and_times_are_left_out(self) -> None:
        asked = question(
            FailingSaga(
                "order",
                "charge",
                "payment-7d9c",
                "order-4711 at 10.0.0.3:8443 failed 2026-11-24T10:00:00Z: code 243, "
                "trace 4bf92f3577b34da6a3ce929d0e0e4736, request 3f2504e0-4f89-11d3-9a0c-0305e82c3301",
                ("IsthmusRouterLag",),
            )
        )
        assert "code 243" in asked
        assert "IsthmusRouterLag" in asked
        for gone in ("4711", "10.0.0.3", "8443", "2026", "4bf92f", "3f2504e0", "7d9c"):
            assert gone not in asked

    def test_what_is_unknown_is_left_out(self) -> None:
        assert question(FailingSaga("order", "charge", "payment")) == "payment charge"
