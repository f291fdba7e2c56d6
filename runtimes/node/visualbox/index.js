// The same under the name that modules of an earlier dashboard service use.
"use strict";
module.exports = require("cloister");
