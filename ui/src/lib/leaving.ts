/** What was changed and not saved does not go unasked: neither by another page nor by a closed window. */
import { onBeforeUnmount } from "vue";
import { useI18n } from "vue-i18n";
import { onBeforeRouteLeave } from "vue-router";

/** Ask before the page is left, for as long as `unsaved` says so. */
export function useLeaveGuard(unsaved: () => boolean): void {
  const { t } = useI18n();
  const stay = (event: BeforeUnloadEvent): void => {
    if (unsaved()) event.preventDefault();
  };
  addEventListener("beforeunload", stay);
  onBeforeUnmount(() => removeEventListener("beforeunload", stay));
  onBeforeRouteLeave(() => !unsaved() || confirm(t("leaveUnsaved")));
}
