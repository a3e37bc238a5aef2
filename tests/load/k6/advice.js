// Load on POST /v1/sagas/{type}/advice with the prefixes of sagas. `python -m tests.load.advice` runs it.
//
// BASE_URL, TOKEN  where, and with which token
// SAGA_TYPE        of all the sagas
// QUESTIONS        file: JSON array of bodies, each a text; they are sent in turn
// RATE, DURATION   open model: requests a second that begin whatever the answers do, so that a stall counts; seconds
// WARM             seconds at the beginning whose times do not count: k6 opens its connections then
// VUS              clients at most: with more requests open than that, k6 drops what it should have begun, and says so
// BUSY             1: a 503 that says when to come again is an answer too; it is counted
// SUMMARY          file for k6's own summary, JSON
import { check } from "k6";
import { SharedArray } from "k6/data";
import exec from "k6/execution";
import http from "k6/http";
import { Counter, Trend } from "k6/metrics";

const { BASE_URL, TOKEN, SAGA_TYPE, QUESTIONS, SUMMARY } = __ENV;
const busy = __ENV.BUSY === "1";
const warm = 1000 * Number(__ENV.WARM || 3);
const vus = Number(__ENV.VUS || 50);
const questions = new SharedArray("questions", () => JSON.parse(open(QUESTIONS)));
const refused = new Counter("refused");
const answered = new Trend("answered", true);

export const options = {
  scenarios: {
    load: {
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE || 500),
      timeUnit: "1s",
      duration: `${__ENV.DURATION || 20}s`,
      preAllocatedVUs: vus,
      maxVUs: vus,
    },
  },
  // Shares, not times: how fast it is says more of the machine.
  thresholds: { checks: ["rate==1"], http_req_failed: ["rate==0"] },
  summaryTrendStats: ["avg", "med", "p(95)", "p(99)", "max"],
};

const parameters = {
  headers: { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" },
  responseCallback: busy ? http.expectedStatuses(200, 503) : http.expectedStatuses(200),
};

export default function () {
  const number = exec.scenario.iterationInTest % questions.length;
  const answer = http.post(`${BASE_URL}/v1/sagas/${SAGA_TYPE}/advice`, questions[number], parameters);
  if (busy && answer.status === 503) {
    refused.add(1);
    check(answer, { "a refusal says when to come again": (got) => Number(got.headers["Retry-After"]) >= 1 });
    return;
  }
  if (exec.instance.currentTestRunDuration > warm) answered.add(answer.timings.duration);
  check(answer, {
    "it is answered": (got) => got.status === 200,
    "it is the answer to this question": (got) => got.body.includes(`"saga_id":"${number}"`),
    "policy and model both speak": (got) => got.body.includes('"defaults":[]'),
  });
}

export function handleSummary(data) {
  return { [SUMMARY]: JSON.stringify(data) };
}
