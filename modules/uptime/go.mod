module uptime

go 1.24
