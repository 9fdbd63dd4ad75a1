// console.* in the two formats of LoggingConfig. One write per record, so that records never mix.
import fs from "node:fs";
import util from "node:util";

const JSON_FORMAT = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";
const RANK = { TRACE: 1, DEBUG: 2, INFO: 3, WARN: 4, ERROR: 5, FATAL: 6 };
const LEAST = RANK[process.env.AWS_LAMBDA_LOG_LEVEL] ?? (JSON_FORMAT ? RANK.INFO : 0);
const METHODS = { trace: "TRACE", debug: "DEBUG", info: "INFO", log: "INFO", warn: "WARN", error: "ERROR" };

let requestId;

export function setRequestId(id) {
  requestId = id;
}

export function patchConsole() {
  for (const [method, level] of Object.entries(METHODS)) {
    if (RANK[level] < LEAST) console[method] = () => {};
    else console[method] = (...values) => writeRecord(level, util.format(...values), errorOf(values), values);
  }
}

export function writeRecord(level, text, fault, values) {
  if (!JSON_FORMAT) {
    // A carriage return keeps a record of several lines one record.
    write(`${new Date().toISOString()}\t${requestId}\t${level}\t${text.replace(/\n/g, "\r")}`);
    return;
  }
  const record = { timestamp: new Date().toISOString(), level, requestId };
  const only = values?.length === 1 ? values[0] : undefined;
  record.message = only !== null && typeof only === "object" && !(only instanceof Error) ? only : text;
  let line;
  try {
    line = JSON.stringify({ ...record, ...fault });
  } catch {
    line = JSON.stringify({ ...record, message: text, ...fault });
  }
  write(line);
}

function errorOf(values) {
  const error = values.find((value) => value instanceof Error);
  if (!error) return {};
  return { errorType: error.name, errorMessage: error.message, stackTrace: String(error.stack).split("\n") };
}

function write(line) {
  let data = Buffer.from(line + "\n");
  while (data.length) {
    try {
      data = data.subarray(fs.writeSync(1, data));
    } catch (error) {
      if (error.code !== "EAGAIN") return;
    }
  }
}
