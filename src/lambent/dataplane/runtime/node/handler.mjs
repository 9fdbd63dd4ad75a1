// From `folder/module.export.nested` to a function: CommonJS and ES modules alike.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

export class HandlerFault extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

const REFERENCE = /^([^.]*)\.(.*)$/;

export async function loadHandler(root, reference) {
  if (reference.includes("..")) {
    throw new HandlerFault("Runtime.MalformedHandlerName", `'${reference}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const folder = path.dirname(reference);
  const matched = REFERENCE.exec(path.basename(reference));
  if (!matched) throw new HandlerFault("Runtime.MalformedHandlerName", "Bad handler");
  const [, moduleName, exportPath] = matched;
  const loaded = await loadModule(root, path.join(folder, moduleName));
  const handler = find(loaded, exportPath);
  if (handler === undefined) {
    throw new HandlerFault("Runtime.HandlerNotFound", `${reference} is undefined or not exported`);
  }
  if (typeof handler !== "function") {
    throw new HandlerFault("Runtime.HandlerNotFound", `${reference} is not a function`);
  }
  return handler;
}

async function loadModule(root, name) {
  const base = path.resolve(root, name);
  try {
    for (const extension of ["", ".js", ".mjs", ".cjs"]) {
      const file = base + extension;
      if (!fs.statSync(file, { throwIfNoEntry: false })?.isFile()) continue;
      return isEsModule(file) ? await import(pathToFileURL(file).href) : createRequire(file)(file);
    }
    // A folder with index.js or a package, or a module of a layer.
    return createRequire(path.join(root, "index.js"))(fs.existsSync(base) ? base : name);
  } catch (error) {
    if (error instanceof SyntaxError) throw new HandlerFault("Runtime.UserCodeSyntaxError", error.toString());
    if (error?.code === "MODULE_NOT_FOUND" || error?.code === "ERR_MODULE_NOT_FOUND") {
      throw new HandlerFault("Runtime.ImportModuleError", error.toString());
    }
    throw error;
  }
}

function isEsModule(file) {
  if (file.endsWith(".mjs")) return true;
  if (!file.endsWith(".js")) return false;
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    const manifest = path.join(folder, "package.json");
    if (fs.existsSync(manifest)) return JSON.parse(fs.readFileSync(manifest, "utf8")).type === "module";
    if (folder === path.dirname(folder)) return false;
  }
}

function find(loaded, exportPath) {
  const from = (object) => exportPath.split(".").reduce((value, key) => value?.[key], object);
  return from(loaded) ?? from(loaded?.default);
}
