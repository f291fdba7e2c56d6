// An interpreter that has started ahead: it waits for one order, and then is the program that the order names.
"use strict";
const fs = require("node:fs");
require("node:http"); // what nearly every integration needs
for (const name of process.argv.slice(2)) {
  try {
    require(name); // what the module says it needs
  } catch {
    // the program's to find out
  }
}
const text = fs.readFileSync(0, "utf8");
if (text) {
  const told = JSON.parse(text);
  fs.closeSync(0);
  fs.openSync("/dev/null", "r"); // takes the number that is free
  Object.assign(process.env, told.environ);
  process.chdir(told.cwd);
  process.argv = [process.argv[0], ...told.command.slice(1)];
  require("node:module").runMain();
}
