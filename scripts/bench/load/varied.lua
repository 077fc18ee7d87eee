-- As wrk.lua, but one header field, Cookie, differs from request to request.

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "wrk.lua")

local before, after
local number = 1000000000

function init(args)
   wrk.headers["Cookie"] = "theme=dark; session=@@@@@@@@@@"
   local whole = wrk.format()
   local first, last = whole:find("@@@@@@@@@@", 1, true)
   before, after = whole:sub(1, first - 1), whole:sub(last + 1)
end

function request()
   number = number + 1
   return before .. number .. after
end
