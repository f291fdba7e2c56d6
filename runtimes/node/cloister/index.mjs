// The same for modules that import it.
import library from "./index.js";

export const { MODEL, output, sql } = library;
export default library;
