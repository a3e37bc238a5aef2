// Load on POST /v1/events, and on /health as the bare endpoint to compare with. `python -m tests.load.ingest` runs it.
//
// BASE_URL, TOKEN  where, and with which token
// MODE             health | single | batch (100 events a request) | mixed (single, batches of 20, one in ten bad)
// RATE, DURATION   open model: requests a second that begin whatever the answers do, so that a stall counts; seconds
// VUS              closed model instead: so many clients, each as fast as it is answered
// RUN              begins every event's id; what was accepted goes to the console as `accepted:<request>:<events>`
// SUMMARY          file for k6's own summary, JSON
import { check } from "k6";
import exec from "k6/execution";
import http from "k6/http";

const { BASE_URL, TOKEN, MODE, RUN, SUMMARY } = __ENV;
const duration = `${__ENV.DURATION || 10}s`;
const vus = Number(__ENV.VUS || 0);
const rate = Number(__ENV.RATE || 100);

export const options = {
  scenarios: {
    load: vus
      ? { executor: "constant-vus", vus, duration }
      : { executor: "constant-arrival-rate", rate, timeUnit: "1s", duration, preAllocatedVUs: 50, maxVUs: 400 },
  },
  // Shares, not times: how fast it is says more of the machine.
  thresholds: { checks: ["rate==1"], http_req_failed: ["rate==0"] },
  summaryTrendStats: ["avg", "med", "p(95)", "p(99)", "max"],
  discardResponseBodies: false,
};

const headers = (form) => ({
  Authorization: `Bearer ${TOKEN}`,
  "Content-Type": form === 1 ? "application/cloudevents+json" : "application/cloudevents-batch+json",
});

function event(request, index) {
  return {
    specversion: "1.0",
    id: `${RUN}-${request}-${index}`,
    source: "/k6",
    type: "isthmus.saga.step",
    subject: `${RUN}-${request % 1000}`,
    time: new Date().toISOString(),
    data: { saga_type: "order", step: "charge", participant: "payment", attempt: 1, status: "completed" },
  };
}

function send(request, count, bad) {
  const events = Array.from({ length: count }, (_, index) => event(request, index));
  if (bad) events[count - 1].data.attempt = "first";
  const expected = bad ? 422 : 202;
  const answer = http.post(`${BASE_URL}/v1/events`, JSON.stringify(count === 1 ? events[0] : events), {
    headers: headers(count),
    responseCallback: http.expectedStatuses(expected),
    tags: { name: bad ? "bad" : count === 1 ? "single" : "batch" },
  });
  const right = check(answer, {
    "the answer is the expected one": (got) => got.status === expected,
    "it names each event": (got) => bad
      ? got.json("errors.#") === 1 && got.json("errors.0.index") === count - 1
      : got.json("accepted.#") === count,
  });
  if (!bad && right) console.log(`accepted:${request}:${count}`);
}

export default function () {
  const request = exec.scenario.iterationInTest;
  if (MODE === "health") {
    check(http.get(`${BASE_URL}/health`), { "it is healthy": (got) => got.status === 200 });
  } else if (MODE === "single") {
    send(request, 1, false);
  } else if (MODE === "batch") {
    send(request, 100, false);
  } else {
    send(request, request % 4 ? 1 : 20, request % 10 === 9);
  }
}

export function handleSummary(data) {
  return { [SUMMARY]: JSON.stringify(data) };
}
