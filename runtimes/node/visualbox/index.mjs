// The same for modules that import it.
import library from "./index.js";

export const { MODEL, output } = library;
export default library;
