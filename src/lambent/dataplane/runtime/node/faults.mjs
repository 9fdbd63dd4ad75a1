// Failures as the documents that callers get and the lines that the log gets.
import { writeRecord } from "./logs.mjs";

export function describe(error) {
  if (error instanceof Error || (error && typeof error === "object" && "stack" in error && "message" in error)) {
    return {
      errorType: String(error.name ?? "Error").replace(/\x7f/g, "%7F"),
      errorMessage: String(error.message).replace(/\x7f/g, "%7F"),
      trace: String(error.stack ?? "").replace(/\x7f/g, "%7F").split("\n"),
    };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

export function reportUncaught(title, error) {
  const { errorType, errorMessage, trace } = describe(error);
  const extra = error && typeof error === "object" ? Object.fromEntries(Object.entries(error)) : {};
  let text;
  try {
    text = JSON.stringify({ errorType, errorMessage, ...extra, stack: trace });
  } catch {
    text = JSON.stringify({ errorType, errorMessage, stack: trace });
  }
  writeRecord("ERROR", `${title} \t${text}`, { errorType, errorMessage, stackTrace: trace });
}
