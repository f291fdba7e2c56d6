# Governed data for R, as for Python: cloister.sql("select …") gives a data frame, cloister.datasets() what there is.
# Attached to every R kernel; elsewhere in a sandbox: sys.source("/opt/cloister/R/cloister.R", attach(NULL, name = "cloister")).

.cloister_ask <- function(method, path, accept, body = NULL) {
  text <- if (is.null(body)) "" else jsonlite::toJSON(body, auto_unbox = TRUE, null = "null", digits = NA)
  token <- readLines(Sys.getenv("CLOISTER_TOKEN_FILE", "/dev/shm/cloister-token"), warn = FALSE)[1]
  con <- socketConnection("127.0.0.1", 3127, open = "r+b", blocking = TRUE, timeout = 3600)
  on.exit(close(con))
  head <- c(
    paste(method, path, "HTTP/1.1"), "Host: cloister", "Connection: close", paste("Authorization: Bearer", token),
    paste("Accept:", accept), "Content-Type: application/json", paste("Content-Length:", nchar(text, "bytes")), "", ""
  )
  writeBin(c(charToRaw(paste(head, collapse = "\r\n")), charToRaw(text)), con)
  came <- raw(0)
  pieces <- list()
  while (length(came <- readBin(con, "raw", 65536)) > 0) pieces[[length(pieces) + 1]] <- came
  answer <- unlist(pieces)
  end <- grepRaw("\r\n\r\n", answer, fixed = TRUE)
  if (length(end) == 0) stop("The platform did not answer.", call. = FALSE)
  header <- rawToChar(answer[seq_len(end - 1)])
  content <- if (end + 4 > length(answer)) raw(0) else answer[(end + 4):length(answer)]
  if (grepl("transfer-encoding: *chunked", header, ignore.case = TRUE)) content <- .cloister_dechunk(content)
  content <- rawToChar(content)
  Encoding(content) <- "UTF-8"
  status <- as.integer(strsplit(header, " ")[[1]][2])
  if (status != 200) {
    said <- tryCatch(jsonlite::fromJSON(content)$detail, error = function(error) NULL)
    stop(if (is.null(said)) paste("status", status) else said, call. = FALSE)
  }
  content
}

# RFC 9112, 7.1: each chunk has its length in hexadecimal before it; one of length 0 ends the content.
.cloister_dechunk <- function(content) {
  at <- 1
  chunks <- list()
  repeat {
    end <- grepRaw("\r\n", content, offset = at, fixed = TRUE)
    if (length(end) == 0) stop("The answer was cut off: the query was cancelled or met a limit.", call. = FALSE)
    size <- strtoi(sub(";.*", "", rawToChar(content[at:(end - 1)])), 16L)
    if (size == 0) break
    chunks[[length(chunks) + 1]] <- content[(end + 2):(end + 1 + size)]
    at <- end + 4 + size
  }
  unlist(chunks)
}

cloister.sql <- function(query, params = NULL) {
  if (!is.null(params)) params <- as.list(params)
  text <- .cloister_ask("POST", "/v1/query", "application/json", list(sql = query, params = params))
  answer <- jsonlite::fromJSON(text, simplifyVector = FALSE)
  columns <- lapply(seq_along(answer$columns), function(at) {
    .cloister_column(lapply(answer$rows, `[[`, at), answer$columns[[at]]$type)
  })
  names(columns) <- vapply(answer$columns, `[[`, "", "name")
  structure(columns, row.names = .set_row_names(length(answer$rows)), class = "data.frame")
}

# A column by its type in Arrow: nothing is guessed from how values look. Whole numbers that R cannot hold stay text.
.cloister_column <- function(values, type) {
  values[vapply(values, is.null, NA)] <- NA
  if (any(vapply(values, is.list, NA))) return(I(values))
  flat <- unlist(values)
  if (type == "bool") return(as.logical(flat))
  if (grepl("^u?int|^decimal.*, 0[)]$", type)) {
    if (is.character(flat)) return(flat)
    whole <- as.numeric(flat)
    return(if (all(is.na(whole) | abs(whole) <= .Machine$integer.max)) as.integer(whole) else whole)
  }
  if (grepl("^(float|double|halffloat|decimal)", type)) return(as.numeric(flat))
  text <- as.character(flat)
  if (startsWith(type, "date")) return(as.Date(text))
  if (startsWith(type, "timestamp")) {
    return(as.POSIXct(sub("[+]00:00$", "", text), format = "%Y-%m-%dT%H:%M:%OS", tz = "UTC"))
  }
  text
}

cloister.datasets <- function() jsonlite::fromJSON(.cloister_ask("GET", "/v1/datasets", "application/json"))$items
