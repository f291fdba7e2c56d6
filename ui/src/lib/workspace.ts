// A team's notebook: its state, kept fresh, and what one can do with it.
import { computed, onScopeDispose, watch } from "vue";
import { when } from "../i18n";
import { api, ApiError, must, type Schemas } from "../api/client";
import { useI18n } from "vue-i18n";
import { useAction, useLoad } from "./load";

type Workspace = Schemas["WorkspaceOut"];

/** Why a notebook is still running, in a sentence. */
export function useBusy() {
  const { t } = useI18n();
  return (row: Workspace | null): string => {
    if (!row?.busy_word) return row?.busy ?? "";
    if (row.busy_word === "kept") return t("busy_kept", { value: when(row.keep_until) });
    return row.busy_word === "kernels" ? t("busy_kernels", { n: Number(row.busy_value) }, Number(row.busy_value)) : t(`busy_${row.busy_word}`, { value: row.busy_value });
  };
}

export function useWorkspace(space: string, team: string) {
  const path = { params: { path: { space, team } } };
  const loaded = useLoad<Workspace | null>(async () => {
    try {
      return await must(api.GET("/api/v1/spaces/{space}/teams/{team}/workspace", path));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  }, 10_000);
  const state = computed(() => loaded.data.value?.state ?? "stopped");
  let soon: ReturnType<typeof setTimeout> | undefined;
  watch([state, loaded.data], () => {
    clearTimeout(soon);
    if (["starting", "stopping"].includes(state.value)) soon = setTimeout(() => void loaded.load(), 700);
  });
  onScopeDispose(() => clearTimeout(soon));

  const start = useAction(async (safe: boolean = false, environment: string | null = null) => {
    loaded.put(await must(api.POST("/api/v1/spaces/{space}/teams/{team}/workspace/start", { ...path, body: { safe, environment } })));
  });
  const restart = useAction(async () => {
    loaded.put(await must(api.POST("/api/v1/spaces/{space}/teams/{team}/workspace/restart", { ...path, body: {} })));
  });
  const stop = useAction(async () => {
    loaded.put(await must(api.POST("/api/v1/spaces/{space}/teams/{team}/workspace/stop", path)));
  });
  const change = useAction(async (body: Schemas["WorkspaceIn"]) => {
    loaded.put(await must(api.PATCH("/api/v1/spaces/{space}/teams/{team}/workspace", { ...path, body })));
  });
  /** What runs in it just now, in a sentence, and would be lost by a stop; null when nothing does. */
  const said = useBusy();
  const busy = computed(() => said(loaded.data.value));
  const works = computed(() => (loaded.data.value?.works ? busy.value : null));
  return { loaded, state, busy, works, start, restart, stop, change };
}
