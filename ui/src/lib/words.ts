// The API's own words, such as states and roles, as people read them.
import { useI18n } from "vue-i18n";

/** Of a kind, such as `state`, a word; one that no message file has is shown as it is. */
export function useWords() {
  const { t, te } = useI18n();
  return (kind: string, word: string | null | undefined): string => (word && te(`${kind}_${word}`) ? t(`${kind}_${word}`) : (word ?? ""));
}
