"""The picture: charts and one page made of records, for `loadtest/report`.

    records     reads record files and checks them
    servers     who is who in them: names, order, colours' slots
    scales      from figures to places on an axis, and to the words on it
    marks       pieces of SVG; how wide a text is
    panels      one small chart: bars, or percentiles
    figures     which panels a record's table makes
    questions   the sections of the page: what is asked, and which figures answer it
    theme       colours and style sheets
    page        the whole as one HTML file
    standalone  one figure as one SVG file

Each knows only those above it, but for `theme`, which knows `servers` alone. Nothing here measures, and nothing
is fetched, neither now nor when the page is read.
"""
