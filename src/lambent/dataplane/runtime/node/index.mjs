// The Node.js runtime: loads the handler, then answers one invocation after the other over the Lambda Runtime API.
import { loadHandler } from "./handler.mjs";
import { describe, reportUncaught } from "./faults.mjs";
import { patchConsole, setRequestId } from "./logs.mjs";
import { RuntimeApi } from "./api.mjs";
import { invoke, invokeStreaming, isStreaming } from "./invocation.mjs";

const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API);

patchConsole();

process.on("uncaughtException", (error) => fail("Uncaught Exception", error));
process.on("unhandledRejection", (reason, promise) => {
  const error = new Error(reason instanceof Error ? reason.toString() : String(reason));
  error.name = "Runtime.UnhandledPromiseRejection";
  error.reason = reason;
  error.promise = promise;
  fail("Unhandled Promise Rejection", error);
});

let currentId = "";

function fail(title, error) {
  reportUncaught(title, error);
  const report = currentId ? api.postError(currentId, describe(error)) : api.postInitError(describe(error));
  report.catch(() => {}).finally(() => process.exit(128));
}

async function main() {
  let handler;
  try {
    handler = await loadHandler(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
  } catch (error) {
    reportUncaught("Uncaught Exception", error);
    await api.postInitError(describe(error));
    process.exit(1);
  }
  for (;;) {
    const call = await api.next();
    currentId = call.requestId;
    setRequestId(call.requestId);
    if (call.traceId) process.env._X_AMZN_TRACE_ID = call.traceId;
    if (isStreaming(handler)) await answerStreaming(handler, call);
    else await answer(handler, call);
    currentId = "";
  }
}

async function answer(handler, call) {
  const outcome = await invoke(handler, call);
  if (outcome.error === undefined) {
    await api.postResponse(call.requestId, outcome.body);
  } else {
    reportUncaught("Invoke Error", outcome.error);
    await api.postError(call.requestId, describe(outcome.error));
  }
}

async function answerStreaming(handler, call) {
  const { stream, error } = await invokeStreaming(handler, call, (type) => api.openResponse(call.requestId, type));
  if (error === undefined) {
    await stream.finish();
    return;
  }
  reportUncaught("Invoke Error", error);
  if (stream.begun) await stream.fail(describe(error));
  else await api.postError(call.requestId, describe(error));
}

main().catch((error) => fail("Uncaught Exception", error));
