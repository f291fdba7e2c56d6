// Names of tables, made of names of files.

/** A name that SQL takes without quotes for each file, no two alike. */
export function tableNames(files: string[]): string[] {
  const taken = new Set<string>();
  return files.map((file) => {
    const bare = file.toLowerCase().replace(/\.[a-z.]+$/, "").replace(/[^a-z0-9]+/g, "_").replace(/^_+|_+$/g, "");
    const plain = (/^[a-z]/.test(bare) ? bare : bare ? `t_${bare}` : "table").slice(0, 56);
    let name = plain;
    for (let number = 2; taken.has(name); number++) name = `${plain}_${number}`;
    taken.add(name);
    return name;
  });
}
